"""Which model, provider and credential a request may use."""
