"""What the edge follows: keys, owners, providers, the control subjects of the log."""
