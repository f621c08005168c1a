"""What a provider's answer does to the credentials of others, and what the agent and the log get of the last one."""

import json
from typing import Any

import pytest

from keyforge.contracts.events import RequestCompleted
from keyforge.contracts.ids import ProviderId
from keyforge.contracts.usage import Usage
from keyforge.edge.application.dispatch import Dispatch, unavailable_provider
from keyforge.edge.application.provider_call import BODY_BYTES_MAX, TimeLimits
from keyforge.edge.application.provider_errors import UpstreamBodyTooLarge, UpstreamError, UpstreamRefused
from keyforge.edge.application.relay import Relay, read_bounded
from keyforge.edge.core.dialects.stream_bounds import STREAM_BYTES_PER_TOKEN
from keyforge.edge.core.routing.credential_pool import REFUSED_S
from keyforge.edge.core.routing.origin import ProviderAddress
from keyforge.edge.core.settlement.outcome import Outcome
from keyforge.edge.metrics import Metrics
from keyforge.runtime.clock import SetClock
from tests.unit.edge_twins import EDGE, KEY, NOW, PROVIDER, Agent, Registry, Response, Upstream, admitted, priced


class Sent:
    """One request that was dispatched: the calls, what came of it, and the pool after it."""

    def __init__(self, registry: Registry, *outcomes: Response | UpstreamError, attempts_max: int = 8) -> None:
        self.clock = SetClock(NOW)
        self.registry = registry
        self.upstream = Upstream(*outcomes)
        self.outcome = Outcome(priced().reserve.request_id, KEY, EDGE, NOW, 60, 1)
        self.agent = Agent()
        self._dispatch = Dispatch(
            registry, self.upstream, self.clock, Metrics(), attempts_max=attempts_max, limits=TimeLimits()
        )

    async def ended(self, **fields: Any) -> "Sent":
        relay = Relay(self.registry, self.clock, drain_s=1.0, drain_bytes_max=1024)
        way = admitted(self.agent, priced(**fields), self.outcome, deadline=self.clock.monotonic() + 60)
        if (failed := await self._dispatch.send(way, relay.take)) is not None:
            await relay.tell(way, failed)
        return self

    @property
    def type(self) -> str:
        return str(json.loads(self.agent.answered)["error"]["type"])

    def ready_in_s(self, model: str) -> float | None:
        return self.registry.pool(PROVIDER).ready_in_s(self.clock.monotonic(), model)


def one(*outcomes: Response | UpstreamError) -> Sent:
    return Sent(Registry(("a", "a")), *outcomes)


def turned_down(status: int, body: bytes = b"{}", **headers: str) -> Response:
    answer = Response(status, body)
    answer.headers = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return answer


COOLDOWNS: list[Any] = [
    pytest.param(turned_down(429), 5.0, 0.0, id="429"),
    pytest.param(turned_down(429, retry_after="7"), 7.0, 0.0, id="429 with a time"),
    pytest.param(turned_down(429, retry_after="7", retry_after_ms="1500"), 1.5, 0.0, id="429 with a time in ms"),
    pytest.param(turned_down(429, b'{"code":"insufficient_quota"}'), 300.0, 300.0, id="429, no money"),
    pytest.param(turned_down(429, b"billing_hard_limit_reached"), 300.0, 300.0, id="429, a hard limit"),
    pytest.param(turned_down(402), 300.0, 300.0, id="402"),
    pytest.param(turned_down(429, b"Request too large for m"), 0.0, 0.0, id="429 for this request alone"),
    pytest.param(turned_down(402, b"You can only afford 12 tokens"), 0.0, 0.0, id="402 for this request alone"),
    pytest.param(turned_down(402, b"can only afford 0 tokens"), 300.0, 300.0, id="402, nothing is left"),
    pytest.param(turned_down(401), 60.0, 60.0, id="401"),
    pytest.param(turned_down(403), 0.0, 0.0, id="403: perhaps this model alone"),
]


@pytest.mark.parametrize(("answer", "this_model_s", "others_s"), COOLDOWNS)
async def test_how_long_a_credential_cools_down(answer: Response, this_model_s: float, others_s: float) -> None:
    sent = await one(answer).ended()
    assert (sent.ready_in_s("m"), sent.ready_in_s("other")) == (this_model_s, others_s)


async def test_attempts_are_bounded() -> None:
    registry = Registry(*[(name, name) for name in "abcd"])
    sent = await Sent(registry, *[UpstreamRefused("no listener")] * 4, attempts_max=2).ended()
    assert (sent.type, len(sent.upstream.calls)) == ("upstream_refused", 2)


@pytest.mark.parametrize("status", [400, 404, 500, 503])
async def test_any_other_error_is_the_answer(status: int) -> None:
    """A provider may bill it, and another credential would get the same."""
    sent = await Sent(Registry(("a", "a"), ("b", "b")), Response(status), Response(200)).ended()
    assert (sent.agent.status, len(sent.upstream.calls)) == (status, 1)


async def test_an_agent_is_told_when_a_limited_provider_may_serve_it() -> None:
    sent = await one(turned_down(429, retry_after="6.2")).ended()
    assert sent.type == "upstream_rate_limited"
    assert sent.agent.headers[b"retry-after"] == b"7"


async def test_what_was_refused_costs_nothing_though_the_next_call_was_never_sent() -> None:
    sent = await Sent(Registry(("a", "a"), ("b", "b")), Response(401), UpstreamRefused("no listener")).ended()
    event = sent.outcome.event(1)
    assert isinstance(event, RequestCompleted)
    assert (event.outcome, event.usage, [attempt.sent for attempt in event.attempts]) == (
        "upstream_refused",
        Usage(),
        [True, False],
    )


async def test_a_call_is_noted_while_it_is_under_way() -> None:
    seen: list[bool] = []

    class Noting(Upstream):
        async def send(self, request: Any) -> Response:
            seen.append(sent.outcome.calling)
            return await super().send(request)

    sent = one()
    sent._dispatch._upstream = Noting(Response(200, b"{}"))
    await sent.ended()
    assert (seen, sent.outcome.calling) == ([True], False)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_has_a_bound_and_a_stream_one_for_each_token(stream: bool) -> None:
    sent = await one(Response(200, b"{}")).ended(max_tokens=10, stream=stream)
    [call] = sent.upstream.calls
    assert call.body_bytes_max == BODY_BYTES_MAX + (10 * STREAM_BYTES_PER_TOKEN if stream else 0)


async def test_what_is_held_in_memory_is_bounded() -> None:
    piece = bytes(BODY_BYTES_MAX // 4)
    assert len(await read_bounded(Response(200, *[piece] * 4))) == BODY_BYTES_MAX
    answer = Response(200, *[piece] * 4, b"x")
    with pytest.raises(UpstreamBodyTooLarge) as fault:
        await read_bounded(answer)
    assert fault.value.sent
    assert answer.abandoned


async def test_credentials_that_are_refused_are_no_limit_to_wait_for() -> None:
    """Also for the requests after the one that found out: they are not told of a rate limit."""
    sent = await Sent(Registry(("a", "a"), ("b", "b")), Response(401), Response(401)).ended()
    assert sent.type == "upstream_auth"
    route, now = priced().outgoing.route, sent.clock.monotonic()
    wrong = unavailable_provider(sent.registry, route, now)
    assert wrong is not None
    assert (wrong.kind.type, wrong.kind.retry) == ("upstream_auth", False)
    assert unavailable_provider(sent.registry, route, now + REFUSED_S + 1) is None, "they are tried again"
    one_limited = await Sent(Registry(("a", "a"), ("b", "b")), Response(401), turned_down(429)).ended()
    wrong = unavailable_provider(one_limited.registry, route, one_limited.clock.monotonic())
    assert wrong is not None
    assert wrong.kind.type == "upstream_rate_limited"


class Unaddressed(Registry):
    """Its provider has credentials and no address: its registration cannot be read."""

    def address(self, provider: ProviderId) -> ProviderAddress | None:
        del provider
        return None


async def test_a_provider_without_an_address_is_not_called() -> None:
    registry = Unaddressed(("a", "a"))
    wrong = unavailable_provider(registry, priced().outgoing.route, 0.0)
    assert wrong is not None
    assert wrong.kind.type == "no_credential"
    sent = await Sent(registry).ended()
    assert sent.upstream.calls == []


async def test_a_request_that_is_too_large_for_an_account_is_tried_once_in_each_quota_group() -> None:
    registry = Registry(("a", "one"), ("b", "one"), ("c", "other"))
    sent = await Sent(registry, *[turned_down(429, b"Request too large for m")] * 3).ended()
    assert len(sent.upstream.calls) == 2
