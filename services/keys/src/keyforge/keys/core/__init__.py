"""The decisions of keys: pure functions from facts and a command to events or a refusal, no I/O and no clock."""
