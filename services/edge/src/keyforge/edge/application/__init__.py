"""What the edge does with a request: the way of one, its admission, its dispatch, its answer."""
