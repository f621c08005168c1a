"""What keys calls: the log, the directory's buckets, the price data."""
