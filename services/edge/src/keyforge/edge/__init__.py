"""The agents' API: checks, reserves, forwards and reports every request."""
