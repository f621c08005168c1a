"""One admitted request on its way: what every step after the admission needs."""

import msgspec

from keyforge.edge.application.agent_stream import AgentStream
from keyforge.edge.application.call import Call
from keyforge.edge.application.running import RunningRequest
from keyforge.edge.core.judge import PricedRequest
from keyforge.edge.core.settlement.outcome import Outcome


class AdmittedRequest(msgspec.Struct, frozen=True, eq=False):
    """`deadline` is monotonic; `stream`: the agent's side, where it asked for a stream."""

    call: Call
    priced: PricedRequest
    outcome: Outcome
    running: RunningRequest
    deadline: float
    stream: AgentStream | None
