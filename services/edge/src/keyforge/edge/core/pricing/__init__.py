"""What a request can cost at most."""
