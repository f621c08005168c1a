"""Headers by which an answer tells its agent how its request was sent."""

from keyforge.edge.application.call import Headers
from keyforge.edge.core.dialects import left_out
from keyforge.edge.core.judge import PricedRequest


def ignored(priced: PricedRequest) -> Headers:
    """Return the header that names what was not sent on, if there is anything."""
    names = priced.outgoing.ignored
    return [(b"x-keyforge-ignored", left_out.listed(names).encode())] if names else []
