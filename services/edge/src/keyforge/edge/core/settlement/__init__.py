"""How a request ends for the log: its outcome, its refusals, its commitments."""
