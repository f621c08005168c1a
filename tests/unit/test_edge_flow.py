"""The way of a request over twins of every port: each step may end it, and what was admitted always gets an end."""

import asyncio
import json
from typing import Any

import pytest

from keyforge.contracts.events import KeyRevoked, RequestCompleted
from keyforge.contracts.ids import RequestIds, TokenId
from keyforge.contracts.reserve import Answer, Reserve
from keyforge.contracts.usage import Usage
from keyforge.edge.application.admission import Admission
from keyforge.edge.application.callers import Callers
from keyforge.edge.application.dispatch import Dispatch
from keyforge.edge.application.flow import RequestFlow
from keyforge.edge.application.models import ModelList
from keyforge.edge.application.ports import Unanswered
from keyforge.edge.application.provider_call import TimeLimits, UpstreamRequest
from keyforge.edge.application.relay import Relay
from keyforge.edge.application.running import RunningRequests
from keyforge.edge.core.settlement.pending_outcomes import PendingOutcomes
from keyforge.edge.core.settlement.refusal_counter import RefusalCounter
from keyforge.edge.inbound.routes import AgentRoutes
from keyforge.edge.metrics import Metrics
from keyforge.runtime.clock import SetClock
from tests.unit.edge_twins import (
    ALLOW,
    CHAT,
    EDGE,
    KEY,
    NOW,
    Agent,
    Budget,
    Feed,
    Keys,
    Outcomes,
    Registry,
    Response,
    TenantKeys,
    Upstream,
)

BODY = b'{"model":"m","messages":[{"role":"user","content":"hello"}]}'
ANSWER = b'{"choices":[{"index":0}],"usage":{"prompt_tokens":3,"completion_tokens":1}}'
BODY_BYTES_MAX = 1_000


class Hanging:
    """A provider that never answers."""

    def __init__(self) -> None:
        self.called = asyncio.Event()

    async def send(self, _request: UpstreamRequest) -> Response:
        self.called.set()
        await asyncio.Event().wait()
        return Response(500)


class Edge:
    """The routes over twins; `budget` and `upstream` follow their scripts."""

    def __init__(
        self, *, budget: Any = None, upstream: Any = None, keys: Any = None, open_requests_max: int = 9
    ) -> None:
        self.budget = budget or Budget(ALLOW)
        self.upstream = upstream or Upstream(Response(200, ANSWER))
        self.outcomes, self.metrics, self.running = Outcomes(), Metrics(), RunningRequests()
        self.refusals = RefusalCounter(EDGE)
        keys, providers, clock = keys or Keys(KEY), Registry(("c", "g")), SetClock(NOW)
        callers = Callers(keys, self.refusals, self.metrics)
        admission = Admission(
            edge_id=EDGE, keys=keys, providers=providers, budget=self.budget, outcomes=self.outcomes,
            pending=PendingOutcomes(), control_feed=Feed(), tenant_keys=TenantKeys(), clock=clock,
            request_s=60,
        )  # fmt: skip
        flow = RequestFlow(
            edge_id=EDGE, callers=callers, admission=admission,
            dispatch=Dispatch(providers, self.upstream, clock, self.metrics, attempts_max=1, limits=TimeLimits()),
            relay=Relay(providers, clock, drain_s=1.0, drain_bytes_max=1), running=self.running,
            outcomes=self.outcomes, clock=clock, metrics=self.metrics, request_s=60, body_bytes_max=BODY_BYTES_MAX,
            body_s=1.0, early_head_s=10.0,
        )  # fmt: skip
        models = ModelList(callers, providers, clock)
        ids = RequestIds(lambda: 0, bytes)
        self.routes = AgentRoutes(
            flow, models, None, self.metrics, ids, clock,  # type: ignore[arg-type]  # nothing here goes there
            open_requests_max=open_requests_max, body_s=1.0, stall_s=1.0,
        )  # fmt: skip

    async def chat(self, body: bytes = BODY, key_text: bytes = b"vk") -> Agent:
        agent = Agent(body, key_text)
        await self.routes.carry(agent, CHAT)
        return agent


def type_of(agent: Agent) -> str:
    return str(json.loads(agent.answered)["error"]["type"])


async def test_an_allowed_request_is_answered_and_recorded() -> None:
    edge = Edge()
    agent = await edge.chat()
    assert (agent.status, agent.answered) == (200, ANSWER)
    (event,) = edge.outcomes.events
    assert isinstance(event, RequestCompleted)
    assert event.usage is not None
    assert (event.outcome, event.usage.tokens, len(edge.running)) == ("ok", 4, 0)
    assert edge.metrics.outcomes == {"ok": 1}
    assert edge.metrics.requests == {("chat.completions", 200): 1}


@pytest.mark.parametrize(
    ("changed", "body", "type_"),
    [
        pytest.param({}, b" " * (BODY_BYTES_MAX + 1), "body_too_large", id="too large"),
        pytest.param({}, b"{", "json_invalid", id="not JSON"),
        pytest.param({"budget": Budget(Answer("refuse", "budget_exceeded"))}, BODY, "budget_exceeded", id="no money"),
    ],
)
async def test_a_refused_request_is_counted_and_not_sent(changed: Any, body: bytes, type_: str) -> None:
    edge = Edge(**changed)
    agent = await edge.chat(body)
    assert type_of(agent) == type_
    assert (edge.upstream.calls, edge.outcomes.events, len(edge.running)) == ([], [], 0)
    assert edge.metrics.refusals == {type_: 1}
    assert [(due.event.reason, due.event.request_id) for due in edge.refusals.due()] == [(type_, agent.request_id)]


async def test_a_caller_without_a_key_has_no_tenant_to_record_it_for() -> None:
    edge = Edge()
    assert type_of(await edge.chat(key_text=b"")) == "key_missing"
    assert edge.metrics.unknown_keys == 1
    assert (edge.refusals.due(), edge.outcomes.events) == ([], [])


async def test_a_request_that_is_ended_during_its_call_counts_as_spent() -> None:
    upstream = Hanging()
    edge = Edge(upstream=upstream)
    task = asyncio.create_task(edge.chat())
    await upstream.called.wait()
    task.cancel()
    await asyncio.wait([task])
    (event,) = edge.outcomes.events
    assert isinstance(event, RequestCompleted)
    assert (event.usage, len(edge.running)) == (None, 0)


async def test_a_fault_of_ours_during_a_call_still_ends_the_request_in_the_log() -> None:
    class Broken:
        async def send(self, request: UpstreamRequest) -> Response:
            raise RuntimeError(request)

    edge = Edge(upstream=Broken())
    assert type_of(await edge.chat()) == "internal"
    (event,) = edge.outcomes.events
    assert isinstance(event, RequestCompleted)
    assert (event.usage, len(edge.running)) == (None, 0)


async def test_models_are_listed_for_a_key_in_force() -> None:
    agent = Agent()
    await Edge().routes.carry(agent, None)
    assert [model["id"] for model in json.loads(agent.answered)["data"]] == ["one/m"]


async def test_more_requests_than_may_be_open_are_refused() -> None:
    upstream = Hanging()
    edge = Edge(upstream=upstream, open_requests_max=1)
    task = asyncio.create_task(edge.chat())
    await upstream.called.wait()
    assert type_of(await edge.chat()) == "edge_busy"
    task.cancel()
    await asyncio.wait([task])
    assert edge.metrics.open_requests == 0


async def test_a_fault_of_ours_is_answered_as_such_and_the_next_request_is_served() -> None:
    class Broken(Keys):
        async def identify(self, text: bytes) -> Any:
            raise RuntimeError(text)

    edge = Edge(keys=Broken(KEY))
    assert type_of(await edge.chat()) == "internal"
    assert edge.metrics.open_requests == 0


REVOKED = KeyRevoked(
    key_id=KEY.key_id, tenant=KEY.tenant, reason=None, revision=2, secret_version=None, by=TokenId("o")
)


async def test_a_revocation_while_a_request_waits_for_its_admission_cuts_its_stream() -> None:
    class Revoking(Budget):
        async def ask(self, partition: int, reserve: Reserve) -> Answer | Unanswered:
            edge.running.apply(REVOKED)
            await asyncio.sleep(0)
            return await super().ask(partition, reserve)

    word = b'data: {"choices":[{"index":0,"delta":{"content":"word"}}]}\n\n'
    edge = Edge(budget=Revoking(ALLOW), upstream=Upstream(Response(200, *[word] * 1000)))
    agent = await edge.chat(BODY[:-1] + b',"stream":true}')
    assert agent.answered.count(b"word") < 1000
    assert [event.outcome for event in edge.outcomes.events if isinstance(event, RequestCompleted)] == [
        "stream_revoked"
    ]


@pytest.mark.parametrize("status", [400, 500])
async def test_an_error_in_the_place_of_a_stream_is_an_error(status: int) -> None:
    error = b'{"error":{"message":"no such model"}}'
    edge = Edge(upstream=Upstream(Response(status, error)))
    agent = await edge.chat(BODY[:-1] + b',"stream":true}')
    assert (agent.status, agent.answered) == (status, error)
    assert [event.usage for event in edge.outcomes.events if isinstance(event, RequestCompleted)] == [Usage()]
