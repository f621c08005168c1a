"""The operator's command line and the supervisor of the embedded stack."""
