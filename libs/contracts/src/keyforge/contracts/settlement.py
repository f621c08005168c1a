"""What a request settles at, and which of two terminals counts: the one rule that budget and audit both fold by.

    terminal                  nusd                     tokens           requests
    completed with usage      prices.cost_nusd(usage)  usage.tokens     1
    completed without usage   the reserved             the reserved     1
    cancelled                 0                        0                0
    abandoned                 the reserved             the reserved     1

The first terminal counts; only a completion replaces an abandonment. A cancel in front of its admission counts for it.
A terminal is accepted only if it names the tenant and the key of the admission, a completion or cancel only on the
`use` subject of the edge that the admission names: so the records of a request are all on the chain of its key.
Amounts are held within 0 and CAP_MAX, so that no report of an edge can refund money or outgrow 64 bits.
`concurrency` counts what is open: it settles at nothing.

A `Usage` has no bounds of its own. Edges report none that is negative or absurd (they say None, and the reserved is
charged), so it could only come from a faulty one. Bounds would make such a completion unreadable: the request would
stay open to its deadline, as an abandonment, and its record would lack what was said. Held here it settles at once, and
the record has it to the letter.
"""

from typing import Final, Literal

import msgspec

from keyforge.contracts.events import RequestAbandoned, RequestAdmitted, RequestCancelled, RequestCompleted
from keyforge.contracts.limits import CAP_MAX, Amounts
from keyforge.contracts.usage import UnitPrices, Usage

Terminal = Literal["completed", "cancelled", "abandoned"]

REMEMBERED_S: Final = 24 * 3600
"""How long after its deadline, in log time, the end of a request is remembered, and an abandonment may be replaced."""
TOMBSTONE_DEADLINE_S_MAX: Final = 2 * 3600
"""A cancel may name a deadline this far ahead of the log's time, and no further."""


Tombstone = tuple[str, str, str, str]
"""Which admission a cancel is of: request id, edge, tenant, key id."""


_NOTHING: Final = Usage()


class Settled(msgspec.Struct, frozen=True, gc=False):
    """What one terminal comes to. `requests` is 1, or 0 for a cancel."""

    terminal: Terminal
    nusd: int
    tokens: int
    requests: int

    def of(self, unit: str) -> int:
        """Return the amount that stays on a limit on `unit`."""
        if unit == "usd":
            return self.nusd
        if unit == "tokens":
            return self.tokens
        return self.requests if unit == "requests" else 0


CANCELLED: Final = Settled("cancelled", 0, 0, 0)


def completed(usage: Usage | None, prices: UnitPrices, reserved: Amounts) -> Settled:
    """Settle a completion: at the pinned prices, or at the reserved where the usage is not known. A usage of nothing
    costs nothing, not even the price of a request: the provider refused."""
    if usage is None:
        return Settled("completed", reserved.nusd, reserved.tokens, 1)
    if not usage.tokens and usage == _NOTHING:
        return Settled("completed", 0, 0, 1)
    return Settled("completed", _held(prices.cost_nusd(usage)), _held(usage.tokens), 1)


def abandoned(reserved: Amounts) -> Settled:
    """Settle a request that nobody spoke of again: the reservation counts as spent."""
    return Settled("abandoned", reserved.nusd, reserved.tokens, 1)


def counts(terminal: Terminal, before: Terminal | None) -> bool:
    """Say whether a terminal counts after the one that counted before (None: it is the first)."""
    return before is None or (before == "abandoned" and terminal == "completed")


def is_of_key(terminal: RequestCompleted | RequestCancelled | RequestAbandoned, admitted: RequestAdmitted) -> bool:
    """Return whether a terminal names the tenant and the key of the admission of its request."""
    return terminal.key_id == admitted.key_id and terminal.tenant == admitted.tenant


def tombstone_of(event: RequestCancelled | RequestAdmitted) -> Tombstone:
    """Return what a cancel before its admission and that admission have in common."""
    return event.request_id, event.edge, event.tenant, event.key_id


def overran(settled: Settled, reserved: Amounts) -> bool:
    """Say whether a provider billed more than was reserved, in money or in tokens."""
    return settled.nusd > reserved.nusd or settled.tokens > reserved.tokens


def _held(amount: int) -> int:
    return amount if 0 <= amount <= CAP_MAX else min(max(amount, 0), CAP_MAX)
