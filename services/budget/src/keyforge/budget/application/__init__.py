"""What budget does: own partitions, batch reserves, commit them, answer."""
