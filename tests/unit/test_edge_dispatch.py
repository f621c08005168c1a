"""Which calls of a provider follow another one: never after one that may be billed."""

import pytest

from keyforge.contracts.errors import Problem
from keyforge.contracts.events import RequestCancelled, RequestCompleted
from keyforge.contracts.usage import Usage
from keyforge.edge.application.dispatch import Dispatch
from keyforge.edge.application.provider_call import TimeLimits
from keyforge.edge.application.provider_errors import UpstreamCut, UpstreamError, UpstreamRefused, UpstreamTimeout
from keyforge.edge.application.relay import Relay
from keyforge.edge.core.settlement.outcome import Outcome
from keyforge.edge.metrics import Metrics
from keyforge.runtime.clock import SetClock
from tests.unit.edge_twins import EDGE, KEY, NOW, Agent, Registry, Response, Upstream, exchange, priced, secret

TWO_GROUPS = (("a", "a"), ("b", "b"))


ANSWER = b'{"choices":[{"index":0}],"usage":{"prompt_tokens":3,"completion_tokens":1}}'


async def sent(upstream: Upstream, *credentials: tuple[str, str]) -> tuple[bytes | str, Outcome]:
    """Return what comes of one request: the agent's answer, or the type of the problem or failure."""
    registry, clock, agent = Registry(*credentials), SetClock(NOW), Agent()
    dispatch = Dispatch(registry, upstream, clock, Metrics(), attempts_max=8, limits=TimeLimits())
    outcome = Outcome(priced().reserve.request_id, KEY, EDGE, NOW, 60, 1)
    relay = Relay(registry, clock, drain_s=1.0, drain_bytes_max=1024)
    failed = await dispatch.send(exchange(agent, priced(), outcome), relay.take)
    if failed is None:
        return agent.answered, outcome
    return failed.kind.type if isinstance(failed, Problem) else failed.outcome, outcome


@pytest.mark.parametrize("status", [429, 402, 401, 403])
async def test_an_answer_that_bills_nothing_is_followed_by_another_credential(status: int) -> None:
    upstream = Upstream(Response(status, b"{}"), Response(200, ANSWER))
    answer, outcome = await sent(upstream, *TWO_GROUPS)
    assert answer == ANSWER
    assert [call.headers.pairs[0][1].removeprefix(b"Bearer ") for call in upstream.calls] == [secret("a"), secret("b")]
    assert [attempt.status for attempt in outcome.attempts] == [status, 200]


async def test_a_limited_group_is_not_asked_again_for_the_same_request() -> None:
    upstream = Upstream(Response(429, b"{}"))
    answer, outcome = await sent(upstream, ("a1", "a"), ("a2", "a"))
    assert (answer, len(upstream.calls)) == ("upstream_rate_limited", 1)
    event = outcome.event(1)
    assert isinstance(event, RequestCompleted)
    assert event.usage == Usage()


async def test_a_call_that_was_not_sent_is_followed_by_another_one() -> None:
    upstream = Upstream(UpstreamRefused("no listener"), Response(200, ANSWER))
    answer, _ = await sent(upstream, *TWO_GROUPS)
    assert answer == ANSWER
    _, outcome = await sent(Upstream(*[UpstreamRefused("no listener")] * 2), *TWO_GROUPS)
    assert isinstance(outcome.event(1), RequestCancelled)


@pytest.mark.parametrize("fault", [UpstreamCut("before its head", sent=True), UpstreamTimeout("first byte", sent=True)])
async def test_a_call_that_was_sent_and_got_no_answer_is_the_last_one(fault: UpstreamError) -> None:
    """The provider may have served it: a second one would be billed twice."""
    upstream = Upstream(fault, Response(200, b"{}"))
    answer, outcome = await sent(upstream, *TWO_GROUPS)
    assert (answer, len(upstream.calls)) == (fault.type, 1)
    event = outcome.event(1)
    assert isinstance(event, RequestCompleted)
    assert (event.usage, event.usage_source) == (None, "bound")
