"""The one policy on network addresses: which ones a credential may be sent to. Pure."""
