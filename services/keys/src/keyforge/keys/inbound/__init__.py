"""What calls keys: the operators' HTTP API."""
