"""What audit calls: ClickHouse, a server's or the embedded engine's."""
