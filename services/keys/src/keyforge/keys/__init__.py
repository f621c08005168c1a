"""The operators' API: tenants, keys, providers, credentials and prices."""
