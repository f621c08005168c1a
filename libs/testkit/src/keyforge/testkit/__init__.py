"""Real neighbours for tests: NATS, ClickHouse, a provider simulator, a whole stack."""
