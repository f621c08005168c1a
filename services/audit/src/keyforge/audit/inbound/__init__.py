"""What calls audit: the logs, operators over HTTP, and clients that speak ClickHouse's HTTP protocol."""
