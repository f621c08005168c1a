"""What audit does: follow the logs, keep ClickHouse a projection of them, rebuild it, answer from it."""
