"""What keys decides: pure functions from facts and a command to events or a refusal, no I/O and no clock."""
