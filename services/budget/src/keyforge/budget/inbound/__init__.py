"""What calls budget: reserves on the bus, operators over HTTP."""
