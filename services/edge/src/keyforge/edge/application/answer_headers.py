"""Headers by which an answer tells its agent how its request was sent."""

from keyforge.edge.application.call import Headers
from keyforge.edge.core.dialects import left_out
from keyforge.edge.core.judge import PricedRequest


def sent_as(priced: PricedRequest) -> Headers:
    """Return what every answer has that the request was sent for: the cap on its output, and what was not sent on."""
    outgoing = priced.outgoing
    if not outgoing.workload.writes:
        return ignored(priced)
    cap = (b"x-keyforge-max-output-tokens", b"%d" % outgoing.sending.cap)
    return [cap, *ignored(priced)] if outgoing.ignored else [cap]


def ignored(priced: PricedRequest) -> Headers:
    """Return the header that names what was not sent on, if there is anything."""
    names = priced.outgoing.ignored
    return [(b"x-keyforge-ignored", left_out.listed(names).encode())] if names else []
