"""The embedded stack: its home, ports, secrets and processes, and the supervisor that keeps them."""
