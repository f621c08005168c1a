"""The one writer of admissions: reserves money before a provider is called."""
