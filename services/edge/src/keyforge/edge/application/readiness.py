"""Whether an edge can serve, and which partitions cannot be served, which is their tenants' concern and no edge's.

An edge is unready for what is its own: it is not connected, has not read the providers, cannot read what others write,
or is cut off from the log for longer than it takes without a leader. While partitions have no owner, or their logs no
leader, their tenants get 503 from every edge: none would serve them better, and all others are served. That holds for
all partitions at once as well, since one node may lead all their logs: unready edges would be 503 for everyone, too,
from a balancer, without a type and without `Retry-After`.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from keyforge.edge.application.ports import ControlFeed, OutcomeLog

START_S_MAX: Final = 15.0
"""How long an edge that starts waits for each partition before it serves the others. Chosen: a new leader is elected in
4 to 9 s (`eventlog.fence`), and a partition is taken over within 6 s of the end of its owner."""
CUT_OFF_S_MAX: Final = 15.0
"""How long an edge may be cut off from every partition before that counts as its own fault. Chosen: as START_S_MAX,
more than an election takes; a feed that only this edge has lost refuses its streams for as long."""
LACKS: Final = ("control_feed", "owner", "log")
"""What a partition may lack: a current control feed (no streams), an owner (no requests), a log that takes outcomes."""


class Readiness:
    """What /readyz returns, and what is counted of partitions."""

    def __init__(
        self,
        partitions: int,
        own: Mapping[str, Callable[[], bool]],
        control_feed: ControlFeed,
        owned: Callable[[int], bool],
        outcomes: OutcomeLog,
        monotonic: Callable[[], float],
    ) -> None:
        """`own`: the checks of this edge alone, by name. `owned`: whether a partition has an owner."""
        self._own = own
        self._partitions = range(partitions)
        self._control_feed = control_feed
        self._owned = owned
        self._outcomes = outcomes
        self._monotonic = monotonic
        self._began_s = monotonic()
        self._started = False
        self._cut_off_s: float | None = None
        """Since when it is seen to be cut off from every partition (monotonic)."""

    def checks(self) -> dict[str, bool]:
        """Return each condition by name."""
        if not self._started:
            waited = self._monotonic() - self._began_s >= START_S_MAX
            self._started = waited or not any(map(self._lacking, self._partitions))
        feed = not self._cut_off() and not self._control_feed.unreadable()
        return {**{name: check() for name, check in self._own.items()}, "control_feed": feed, "started": self._started}

    def details(self) -> dict[str, Any]:
        """Return which partitions cannot be served: that makes no edge unready."""
        found = {str(partition): self._lacking(partition) for partition in self._partitions}
        lacking = {partition: lacks for partition, lacks in found.items() if lacks}
        return {"partitions_unavailable": lacking} if lacking else {}

    def lacks(self) -> list[tuple[int, str, bool]]:
        """Return for each partition and each of LACKS whether it has that."""
        found = {partition: self._lacking(partition) for partition in self._partitions}
        return [(partition, thing, thing in found[partition]) for partition in found for thing in LACKS]

    def _cut_off(self) -> bool:
        if not all(map(self._control_feed.stale, self._partitions)):
            self._cut_off_s = None
            return False
        now_s = self._monotonic()
        self._cut_off_s = now_s if self._cut_off_s is None else self._cut_off_s
        return now_s - self._cut_off_s >= CUT_OFF_S_MAX

    def _lacking(self, partition: int) -> list[str]:
        lacks = (
            self._control_feed.stale(partition),
            not self._owned(partition),
            self._outcomes.unavailable(partition) is not None,
        )
        return [thing for thing, lacking in zip(LACKS, lacks, strict=True) if lacking]
