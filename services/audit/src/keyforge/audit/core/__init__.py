"""What audit decides: which events count, which records they become, what a request came to. Pure."""
