"""What calls audit: operators over HTTP, and clients of ClickHouse's HTTP protocol."""
