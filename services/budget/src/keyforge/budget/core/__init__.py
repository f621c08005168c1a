"""What budget decides, and the state it decides on: pure, no I/O, no clock, no async."""
