"""What audit calls: ClickHouse (a server, or the engine in the process) and the stream of subscribers."""
