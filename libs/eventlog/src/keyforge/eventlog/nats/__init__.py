"""A client of NATS for what is hot: its protocol as values, one connection, the client that keeps one."""
