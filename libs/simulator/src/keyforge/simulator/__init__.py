"""A provider to test against: OpenAI's API on loopback, scripted faults, its own books."""
