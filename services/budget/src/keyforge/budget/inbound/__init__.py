"""What calls budget: reserves on the bus, the log's reader, operators over HTTP."""
