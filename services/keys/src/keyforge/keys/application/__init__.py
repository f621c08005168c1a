"""The use cases of keys: commands over tenants, keys and the platform are decided, stored and projected."""
