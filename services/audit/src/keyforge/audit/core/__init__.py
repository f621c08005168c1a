"""What audit decides: which events count, which records they become, what a request came to; whether what is stored is
that. Pure."""
