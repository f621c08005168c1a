"""Who sent a request; and how a request is refused: the agent gets the reason, the log a count for its key."""

from collections.abc import Iterable

from keyforge.contracts.directory import KeyEntry
from keyforge.contracts.errors import Problem, problem
from keyforge.edge.application.call import Call, refuse
from keyforge.edge.application.ports import KeyDirectory
from keyforge.edge.core.settlement.refusal_counter import RefusalCounter
from keyforge.edge.metrics import Metrics


class Callers:
    """Identifies callers, and refuses their requests."""

    __slots__ = ("_keys", "_metrics", "_refusals")

    def __init__(self, keys: KeyDirectory, refusals: RefusalCounter, metrics: Metrics) -> None:
        self._keys = keys
        self._refusals = refusals
        self._metrics = metrics

    async def identify(self, call: Call) -> KeyEntry | None:
        """Return the key that the request shows. None: it shows none of ours, and was answered so; no tenant's log
        records that."""
        text = call.head.key_text
        if (known := self._keys.known(text)) is not None:
            return known
        key = await self._keys.identify(text) if text else problem("key_missing")
        if not isinstance(key, Problem):
            return key
        self._metrics.unknown_keys += 1
        await refuse(call, key)
        return None

    async def refuse(self, call: Call, key: KeyEntry, why: Problem, more: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Answer with a problem and `more` headers, and count it for the log."""
        type_ = why.kind.type
        self._metrics.refusals[type_] += 1
        if not self._refusals.count(key, call.request_id, type_):
            self._metrics.refusals_unrecorded += 1
        await refuse(call, why, more)
