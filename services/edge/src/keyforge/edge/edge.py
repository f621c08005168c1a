"""What a request on its way needs to have at hand; put together by `app.py`."""

import msgspec

from keyforge.contracts.directory import KeyEntry
from keyforge.contracts.errors import Problem
from keyforge.contracts.ids import EdgeId, RequestIds
from keyforge.edge.core.commitment import CommitmentKey
from keyforge.edge.core.refusals import Refusals
from keyforge.edge.inbound.call import Call, refuse
from keyforge.edge.metrics import Metrics
from keyforge.edge.outbound.directory import Directory
from keyforge.edge.outbound.hearing import Hearing
from keyforge.edge.outbound.outcomes import Outcomes
from keyforge.edge.outbound.providers import Providers
from keyforge.edge.outbound.reserves import ReserveClient
from keyforge.edge.outbound.streams import Streams
from keyforge.edge.outbound.upstream import TimeLimits, Upstream
from keyforge.runtime.clock import Clock


class Bounds(msgspec.Struct, frozen=True):
    """The edge's bounds; see `settings.py` for what each means."""

    request_s: int
    body_bytes_max: int
    body_s: float
    open_requests_max: int
    attempts_max: int
    stall_s: float
    drain_s: float
    drain_bytes_max: int
    upstream: TimeLimits
    reserves: bool = True
    as_openrouter: bool = False


class Edge(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One edge."""

    edge_id: EdgeId
    bounds: Bounds
    commitment_key: CommitmentKey
    clock: Clock
    ids: RequestIds
    directory: Directory
    providers: Providers
    reserves: ReserveClient
    outcomes: Outcomes
    refusals: Refusals
    hearing: Hearing
    streams: Streams
    upstream: Upstream
    metrics: Metrics

    async def refuse(self, call: Call, key: KeyEntry, why: Problem) -> None:
        """Tell the agent why not, and count it for the log."""
        self.metrics.refused(why.kind.type)
        if not self.refusals.count(key, call.request_id, why.kind.type):
            self.metrics.refusals_untold += 1
        await refuse(call, why)
