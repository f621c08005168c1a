"""What budget does: follow partitions, own them, decide reserves in batches, append and answer."""
