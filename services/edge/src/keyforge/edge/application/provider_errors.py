"""Why an exchange with a provider failed: one tree, a stable type each, and whether anything was sent.

    UpstreamError
    ├── UpstreamBusy              edge_busy                   no free connection in time            never sent
    ├── UpstreamRefused           upstream_refused            no name, no route, no listener        never sent
    ├── UpstreamAddressForbidden  upstream_address_forbidden  the name leads into a private net     never sent
    ├── UpstreamTls               upstream_tls                certificate or handshake              never sent
    ├── UpstreamTimeout           upstream_timeout            connect, first byte, idle or total
    ├── UpstreamCut               upstream_cut                the connection ended before the answer did
    ├── UpstreamMalformed         upstream_malformed          not an HTTP/1.1 answer we can trust or decode
    ├── UpstreamRedirect          upstream_redirect           3xx; never followed
    ├── UpstreamHeaderTooLarge    upstream_header_too_large
    └── UpstreamBodyTooLarge      upstream_body_too_large

`type` is a key of `keyforge.contracts.errors.CATALOGUE`, whose text is what the outside sees. `detail` is for our log:
it may name a host or an address, never a header's value or a body.
"""

from typing import ClassVar


class UpstreamError(Exception):
    """An exchange that yielded no complete answer.

    `sent` is False only when it is certain that no byte of the request was handed to the kernel: such a request costs
    nothing. `reused`: the connection had served another request before. `status` is the provider's,
    once known: 300 to 399 means that nothing was made.

    `unread`: the connection was reused, and ended within a second of the writing with no byte of an answer. The
    provider closed it before it read the request, as servers close what was idle: it made nothing, and the request may
    be tried once more, on a fresh connection.
    """

    type: ClassVar[str]
    unread = False

    def __init__(self, detail: str, *, sent: bool = False, reused: bool = False, status: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.sent = sent
        self.reused = reused
        self.status = status

    def __str__(self) -> str:
        return f"{self.type}: {self.detail}"


class UpstreamBusy(UpstreamError):
    """Every connection to this provider was taken for as long as the request could wait."""

    type = "edge_busy"


class UpstreamRefused(UpstreamError):
    """No connection could be made."""

    type = "upstream_refused"


class UpstreamAddressForbidden(UpstreamError):
    """The provider's name leads only to addresses that this origin may not use."""

    type = "upstream_address_forbidden"


class UpstreamTls(UpstreamError):
    """The provider could not prove who it is."""

    type = "upstream_tls"


class UpstreamTimeout(UpstreamError):
    """One of the time limits passed; `detail` names which."""

    type = "upstream_timeout"


class UpstreamCut(UpstreamError):
    """The connection ended before the answer was complete."""

    type = "upstream_cut"


class UpstreamMalformed(UpstreamError):
    """What came back is not an answer that can be read in exactly one way."""

    type = "upstream_malformed"


class UpstreamRedirect(UpstreamError):
    """The provider pointed elsewhere; a credential never follows."""

    type = "upstream_redirect"


class UpstreamHeaderTooLarge(UpstreamError):
    """More header bytes or lines than an answer may have."""

    type = "upstream_header_too_large"


class UpstreamBodyTooLarge(UpstreamError):
    """A body over the request's bound."""

    type = "upstream_body_too_large"
