"""Linked, keyed records of what the gateway recorded: canonical bodies, headers, sealing, verification. Pure."""
