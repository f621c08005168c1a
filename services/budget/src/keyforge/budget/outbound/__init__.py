"""What budget calls: the bucket of leases, and the bus for its answers."""
