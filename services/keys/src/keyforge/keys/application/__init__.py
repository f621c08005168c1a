"""What keys does: commands over tenants, keys and the platform, decided, stored, shown."""
