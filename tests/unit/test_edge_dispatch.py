"""Which calls of a provider follow another one: never after one that may be billed."""

from typing import Any

import pytest

from keyforge.contracts.errors import Problem
from keyforge.contracts.events import RequestCancelled, RequestCompleted
from keyforge.contracts.usage import Usage
from keyforge.edge.application.dispatch import Dispatch
from keyforge.edge.application.provider_call import TimeLimits
from keyforge.edge.application.provider_errors import (
    UpstreamBusy,
    UpstreamCut,
    UpstreamError,
    UpstreamRedirect,
    UpstreamRefused,
    UpstreamTimeout,
)
from keyforge.edge.application.relay import Relay
from keyforge.edge.core.dialects.additions import CONCEDED_MAX
from keyforge.edge.core.dialects.quirks import THINKING_S
from keyforge.edge.core.judge import PricedRequest
from keyforge.edge.core.settlement.outcome import ATTEMPTS_MAX, Outcome
from keyforge.edge.metrics import Metrics
from keyforge.edge.settings import EdgeSettings
from keyforge.runtime.clock import SetClock
from tests.unit.edge_twins import EDGE, KEY, NOW, Agent, Registry, Response, Upstream, admitted, priced, secret

TWO_GROUPS = (("a", "a"), ("b", "b"))


ANSWER = b'{"choices":[{"index":0}],"usage":{"prompt_tokens":3,"completion_tokens":1}}'


async def sent(
    upstream: Upstream, *credentials: tuple[str, str], asked: PricedRequest | None = None
) -> tuple[bytes | str, Outcome]:
    """Return what comes of one request: the agent's answer, or the type of the problem or failure."""
    registry, clock, agent = Registry(*credentials), SetClock(NOW), Agent()
    dispatch = Dispatch(registry, upstream, clock, Metrics(), attempts_max=8, limits=TimeLimits())
    outcome = Outcome(priced().reserve.request_id, KEY, EDGE, NOW, 60, 1)
    relay = Relay(registry, clock, drain_s=1.0, drain_bytes_max=1024)
    failed = await dispatch.send(admitted(agent, asked or priced(), outcome), relay.take)
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


def unread() -> UpstreamCut:
    lost = UpstreamCut("the connection broke", sent=True, reused=True)
    lost.unread = True
    return lost


async def test_a_call_that_was_not_read_is_made_once_more_on_a_fresh_connection() -> None:
    upstream = Upstream(unread(), Response(200, ANSWER))
    answer, outcome = await sent(upstream, ("a", "a"))
    assert answer == ANSWER
    assert [(call.fresh, call.headers) for call in upstream.calls] == [
        (False, upstream.calls[0].headers),
        (True, upstream.calls[0].headers),
    ]
    assert [(one.credential, one.sent, one.status, one.error) for one in outcome.attempts] == [
        ("a", True, 0, "upstream_cut"),
        ("a", True, 200, None),
    ]


@pytest.mark.parametrize(
    ("second", "usage", "source"),
    [
        pytest.param(UpstreamCut("again", sent=True), None, "bound", id="lost: it may have been read"),
        pytest.param(UpstreamTimeout("first byte", sent=True), None, "bound", id="no answer in time"),
        pytest.param(UpstreamRefused("no listener"), Usage(), "none", id="nobody listens"),
        pytest.param(UpstreamBusy("no connection"), Usage(), "none", id="no connection in time"),
        pytest.param(UpstreamRedirect("status 308", sent=True, status=308), Usage(), "none", id="a redirect"),
        pytest.param(Response(401, b"{}"), Usage(), "none", id="turned down"),
    ],
)
async def test_the_second_call_decides_what_it_costs(second: Any, usage: Usage | None, source: str) -> None:
    answer, outcome = await sent(Upstream(unread(), second), ("a", "a"))
    event = outcome.event(1)
    assert isinstance(event, RequestCompleted)
    assert (event.usage, event.usage_source, len(event.attempts)) == (usage, source, 2)
    assert event.outcome == answer


async def test_after_a_call_that_was_not_read_all_are_on_fresh_connections() -> None:
    upstream = Upstream(unread(), Response(429, b"{}"), Response(200, b"{}"))
    _, outcome = await sent(upstream, *TWO_GROUPS)
    assert [call.fresh for call in upstream.calls] == [False, True, True]
    assert [attempt.status for attempt in outcome.attempts] == [0, 429, 200]


def test_the_call_that_is_made_once_more_is_recorded_beside_as_many_as_settings_allow() -> None:
    assert max(getattr(one, "le", 0) for one in EdgeSettings.model_fields["attempts_max"].metadata) == (
        ATTEMPTS_MAX - 1 - CONCEDED_MAX
    )


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_costs_nothing_and_is_not_followed(status: int) -> None:
    upstream = Upstream(UpstreamRedirect(f"status {status}", sent=True, status=status))
    answer, outcome = await sent(upstream, *TWO_GROUPS)
    assert (answer, len(upstream.calls)) == ("upstream_redirect", 1)
    event = outcome.event(1)
    assert isinstance(event, RequestCompleted)
    assert (event.usage, event.usage_source, event.status) == (Usage(), "none", status)
    assert [attempt.status for attempt in event.attempts] == [status]


@pytest.mark.parametrize("field", ["prompt_cache_key", "session_id"])
async def test_requests_of_one_session_stay_on_one_credential(field: str) -> None:
    accounts = [(name, name) for name in "abcdefgh"]
    by_session: dict[str, set[bytes]] = {}
    for session in ("", "one", "two", "three", "four", "five"):
        for _ in range(3):
            upstream = Upstream(Response(200, b"{}"))
            await sent(upstream, *accounts, asked=priced(**({field: session} if session else {})))
            by_session.setdefault(session, set()).add(upstream.calls[0].headers.pairs[0][1])
    assert all(len(used) == 1 for used in by_session.values())
    assert len(set.union(*by_session.values())) > 1


async def test_a_provider_whose_models_think_may_be_silent_for_longer() -> None:
    """The registry's provider is of kind `openai`."""
    upstream = Upstream(Response(200, b"{}"))
    await sent(upstream, ("a", "a"))
    [call] = upstream.calls
    assert (call.limits.first_byte_s, call.limits.idle_s) == (THINKING_S, THINKING_S)
    assert call.limits.connect_s == TimeLimits().connect_s
    assert call.deadline == 60.0, "which ends it all the same"
    longer = TimeLimits(first_byte_s=2 * THINKING_S, idle_s=2 * THINKING_S)
    assert longer.at_least(THINKING_S) is longer
