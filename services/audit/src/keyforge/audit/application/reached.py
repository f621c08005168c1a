"""Up to where the tables hold each log that a rebuild compares, while another audit may be storing more.

A block is two INSERTs, evidence first. Between them, and for good where a process ended there, the records go further
than the requests: nobody removed any. So the two are compared each up to where it goes.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple

from keyforge.audit.application.build import Build
from keyforge.audit.application.ports import StorePorts, TableDifference
from keyforge.audit.core.position import evidence_positions

COMPARED_MAX: Final = 5
"""How often what differs is compared again because the tables grew meanwhile. Chosen: an audit beside us stores a block
a second by default, so one comparison of five falls between two of them while it takes less; a single one often would
not."""


class Reached(NamedTuple):
    """By log, the last message whose rows each table holds."""

    records: dict[int, int]
    requests: dict[int, int]


async def reached(
    ports: StorePorts, call: Callable[..., Awaitable[Any]], old: Build, ends: Mapping[int, int]
) -> Reached:
    """Return up to which message of each log the old tables go: at least up to `ends`, and to what `old` stored.

    `call` calls the store and raises StoreError.
    """
    stored = evidence_positions(await call(ports.store.chain_ends, master=ports.master))
    await old.refresh_ends()
    known, done = old.ends(), old.writer.done
    whole = {log: max(end, done.get(log, 0)) for log, end in ends.items()}
    records = {log: max(at, min(stored.get(log, 0), known.get(log, 0))) for log, at in whole.items()}
    last = await call(ports.store.requests_positions, records)
    return Reached(records, {log: max(at, last.get(log, 0)) for log, at in whole.items()})


async def settled(
    reach: Callable[[], Awaitable[Reached]], compare: Callable[[Reached], Awaitable[list[TableDifference]]]
) -> list[TableDifference]:
    """Compare up to where the tables go; again if something differs and they go further by now."""
    upto = await reach()
    for _ in range(COMPARED_MAX):
        found = await compare(upto)
        if not found or upto == (upto := await reach()):
            break
    return found
