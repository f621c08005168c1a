"""A NATS client for the hot paths: the protocol as values, one connection, the client that reconnects."""
