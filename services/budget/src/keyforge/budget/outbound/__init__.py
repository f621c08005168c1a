"""What budget calls: the log it appends to, and the lease it publishes."""
