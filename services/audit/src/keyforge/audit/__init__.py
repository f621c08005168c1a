"""Folds the log into chained records and ClickHouse, and answers for them."""
