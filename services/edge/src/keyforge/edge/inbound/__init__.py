"""What calls the edge: agents, over HTTP."""
