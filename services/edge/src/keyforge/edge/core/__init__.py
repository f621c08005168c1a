"""What the edge decides, pure: no I/O, no clock, no randomness."""
