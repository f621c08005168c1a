"""What a provider's error comes to: what the agent gets, who rests, what it cost. Pure."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec

from keyforge.contracts.errors import Problem, problem
from keyforge.contracts.usage import Usage
from keyforge.edge.core.dialects.blame import FINAL, Blame, blame_of
from keyforge.edge.core.dialects.provider_error import ProviderError
from keyforge.edge.core.dialects.quirks import Quirks
from keyforge.edge.core.dialects.waits import wait_s

MAY_BILL: Final = frozenset((408, 502, 504, *range(520, 528)))
"""Statuses of a gateway in front of a model that may have run; 520 to 527 are Cloudflare's."""
DOCUMENT_BYTES_MAX: Final = 64 * 1024
"""Of a larger error the agent gets the message alone."""
_ENCODER: Final = msgspec.json.Encoder()
_NAMES: Final[dict[Blame, str]] = {
    "credential": "upstream_auth",
    "permission": "upstream_auth",
    "quota": "upstream_rate_limited",
    "account": "upstream_rate_limited",
    "size": "upstream_rate_limited",
    "request": "upstream_error",
    "provider": "upstream_error",
}
"""As an outcome: types of the catalogue."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An error of a provider, understood.

    `wait_s`: how long it asks to wait, if it says. `billed`: it may have billed something, and does not say what.
    `usage`: what it says that it used all the same. `document`: its whole JSON, where the agent's clients can read it.
    """

    error: ProviderError
    blame: Blame
    wait_s: float | None
    billed: bool
    usage: Usage | None = None
    document: bytes = b""

    @property
    def outcome(self) -> str:
        """The type under which it is recorded."""
        return _NAMES[self.blame]

    @property
    def may_be_repeated(self) -> bool:
        """Whether the same request may succeed later, and nothing was billed for this one."""
        return self.blame in ("provider", "quota") and not self.billed and self.usage is None

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the headers that the agent gets with the provider's words."""
        found = [(b"x-keyforge-error", b"upstream")]
        if self.blame in FINAL:
            found.append((b"x-should-retry", b"false"))
        elif self.wait_s is not None:
            found.append((b"retry-after", b"%d" % max(1, math.ceil(self.wait_s))))
        return found

    def body(self) -> bytes:
        """Return the provider's words as the agent's clients read them: its own JSON, else an error around them."""
        if self.document:
            return self.document
        return _ENCODER.encode(
            {
                "error": {
                    "code": self.error.status,
                    "type": "upstream_error",
                    "message": self.error.message or "The provider answered with an error.",
                    "param": None,
                    "metadata": {},
                }
            }
        )

    def as_problem(self) -> Problem | None:
        """Return what the agent gets in place of the provider's words, where these are about our credential."""
        return problem("upstream_auth") if self.blame in ("credential", "permission") else None


def failure_of(
    error: ProviderError,
    body: bytes,
    headers: Iterable[tuple[bytes, bytes]],
    *,
    kind: str,
    quirks: Quirks,
    now: datetime,
    written: bool = False,
    usage: Usage | None = None,
    sent: bytes = b"",
) -> Failure:
    """Return what an error in the answer of a provider comes to.

    `written`: the model wrote something before it, or a usage came that makes no sense, so tokens may be billed.
    `usage`: what the answer reports. `sent`: the body of the request.
    """
    own_words = isinstance(error.details.get("message"), str)
    unbilled = error.status in quirks.unbilled and own_words
    billed = usage is None and (written or (error.named and error.status in MAY_BILL and not unbilled))
    document = body if error.readable and len(body) <= DOCUMENT_BYTES_MAX else b""
    return Failure(error, blame_of(error, kind, sent), wait_s(headers, error, now), billed, usage, document)
