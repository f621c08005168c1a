"""What the edge calls: providers, the budget, the log."""
