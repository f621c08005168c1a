"""What a request on its way needs to have at hand; put together by `app.py`."""

import msgspec

from keyforge.contracts.directory import KeyEntry
from keyforge.contracts.errors import Problem
from keyforge.contracts.ids import EdgeId, RequestIds
from keyforge.edge.application.call import Call, refuse
from keyforge.edge.application.running import Streams
from keyforge.edge.core.settlement.commitment import CommitmentKey
from keyforge.edge.core.settlement.refusal_counter import Refusals
from keyforge.edge.metrics import Metrics
from keyforge.edge.outbound.budget_client import ReserveClient
from keyforge.edge.outbound.feeds.control_feed import Hearing
from keyforge.edge.outbound.feeds.key_directory import Directory
from keyforge.edge.outbound.feeds.provider_registry import Providers
from keyforge.edge.outbound.outcome_log import Outcomes
from keyforge.edge.outbound.provider_http.seam import TimeLimits, Upstream
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
