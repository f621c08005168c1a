"""A request that a provider refused for what we added is sent once more; what was right then is remembered."""

import json
from datetime import timedelta
from typing import Any

import pytest

from keyforge.contracts.events import RequestCompleted
from keyforge.contracts.usage import Usage
from keyforge.edge.application.dispatch import Dispatch
from keyforge.edge.application.provider_call import TimeLimits
from keyforge.edge.application.relay import Relay
from keyforge.edge.core.dialects.additions import (
    CONCEDED_MAX,
    NOTHING,
    OUTPUT_TOKENS_DEFAULT,
    REMEMBERED_MAX,
    TRIED_AGAIN,
    Additions,
    Concessions,
)
from keyforge.edge.core.settlement.outcome import Outcome
from keyforge.edge.metrics import Metrics
from keyforge.runtime.clock import SetClock
from tests.unit.edge_outgoing import openai_error as openai
from tests.unit.edge_outgoing import outgoing
from tests.unit.edge_twins import EDGE, KEY, NOW, PROVIDER, Agent, Registry, Response, Upstream, priced
from tests.unit.edge_twins import admitted as on_its_way

FIELD = "stream_options"


def test_a_concession_is_remembered_for_its_model_until_it_is_tried_again() -> None:
    additions, conceded = Additions(), Concessions(asks_usage=False)
    assert additions.conceded("p", "m", NOW) is NOTHING
    additions.remember("p", "m", conceded, NOW)
    assert additions.conceded("p", "m", NOW + TRIED_AGAIN - timedelta(seconds=1)) == conceded
    assert additions.conceded("p", "n", NOW) is additions.conceded("q", "m", NOW) is NOTHING
    assert additions.conceded("p", "m", NOW + TRIED_AGAIN) is NOTHING
    assert additions.conceded("p", "m", NOW) is NOTHING, "forgotten"


def test_memory_is_bounded() -> None:
    additions = Additions()
    for number in range(REMEMBERED_MAX + 1):
        additions.remember("p", str(number), Concessions(asks_usage=False), NOW)
    assert additions.conceded("p", "0", NOW) is NOTHING
    assert additions.conceded("p", str(REMEMBERED_MAX), NOW) is not NOTHING


def test_a_cap_that_one_prompt_leaves_room_for_is_not_remembered() -> None:
    additions = Additions()
    additions.remember("p", "m", Concessions(cap_max=9, cap_max_lasts=False), NOW)
    assert additions.conceded("p", "m", NOW) is NOTHING
    additions.remember("p", "m", Concessions("max_completion_tokens", cap_max=9, cap_max_lasts=False), NOW)
    assert additions.conceded("p", "m", NOW) == Concessions("max_completion_tokens")


def test_what_was_conceded_is_sent_from_the_beginning() -> None:
    conceded = Concessions("max_completion_tokens", asks_usage=False, cap_max=77)
    body = json.loads(outgoing(stream=True, concessions=conceded).body)
    assert (body["max_completion_tokens"], "max_tokens" in body, FIELD in body) == (77, False, False)
    assert json.loads(outgoing(concessions=conceded, max_tokens=500).body)["max_completion_tokens"] == 500
    assert outgoing(concessions=conceded).worst.output_tokens == 77


# --- the way of a request ---------------------------------------------------------------------------------------------

ANSWER = b'{"choices":[{"index":0}],"usage":{"prompt_tokens":3,"completion_tokens":1}}'
CHUNK = b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


class Way:
    """Requests of one edge, each to its end."""

    def __init__(self, *answers: Response, attempts_max: int = 8) -> None:
        self.registry, self.clock = Registry(("a", "a"), ("b", "b")), SetClock(NOW)
        self.upstream, self.agent = Upstream(*answers), Agent()
        self.outcome = Outcome(priced().reserve.request_id, KEY, EDGE, NOW, 60, 1)
        self._dispatch = Dispatch(
            self.registry,
            self.upstream,
            self.clock,
            Metrics(),
            attempts_max=attempts_max,
            limits=TimeLimits(),
        )

    async def ended(self, **fields: Any) -> RequestCompleted:
        relay = Relay(self.registry, self.clock, drain_s=1.0, drain_bytes_max=1024)
        self.way = on_its_way(self.agent, priced(**fields), self.outcome)
        if (failed := await self._dispatch.send(self.way, relay.take)) is not None:
            await relay.tell(self.way, failed)
        event = self.outcome.event(1)
        assert isinstance(event, RequestCompleted)
        return event

    @property
    def sent(self) -> list[dict[str, Any]]:
        return [json.loads(call.body) for call in self.upstream.calls]

    @property
    def remembered(self) -> Concessions:
        return self.registry.additions.conceded(PROVIDER, "m", NOW)


def refusal(field: str = FIELD) -> Response:
    return Response(400, json.dumps(openai(f"Unknown parameter: '{field}'.", field)).encode())


@pytest.mark.parametrize("attempts_max", [1, 8])
async def test_a_refused_stream_is_answered_by_the_second_call_of_one_admission(attempts_max: int) -> None:
    way = Way(refusal(), Response(200, CHUNK), attempts_max=attempts_max)
    event = await way.ended(stream=True)
    assert (way.agent.status, way.agent.answered) == (200, CHUNK)
    assert [FIELD in body for body in way.sent] == [True, False]
    assert [(one.credential, one.status) for one in event.attempts] == [("a", 400), ("a", 200)]
    assert len({call.deadline for call in way.upstream.calls}) == 1
    assert way.remembered == Concessions(asks_usage=False)
    assert (event.usage, event.usage_source) == (None, "bound"), "no usage came: what was reserved is spent"


async def test_usage_that_comes_all_the_same_settles_it() -> None:
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}\n\n'
    way = Way(refusal(), Response(200, CHUNK.replace(b"data: [DONE]", usage + b"data: [DONE]")))
    event = await way.ended(stream=True)
    assert event.usage == Usage(input_tokens=3, output_tokens=1)
    assert usage in way.agent.answered


async def test_nothing_is_remembered_where_the_second_call_fails_as_well() -> None:
    """An agent can make a provider quote our field in an error about another."""
    way = Way(refusal(), Response(400, b'{"error":{"message":"no"}}'))
    event = await way.ended(stream=True)
    assert (way.agent.status, len(event.attempts), way.remembered) == (400, 2, NOTHING)
    assert event.usage == Usage()


async def test_one_long_prompt_does_not_cut_the_answers_of_others() -> None:
    error = (
        "`inputs` tokens + `max_new_tokens` must be <= 32010. Given: 32005 `inputs` tokens and 32000 `max_new_tokens`"
    )
    way = Way(Response(422, json.dumps({"error": error}).encode()), Response(200, ANSWER))
    await way.ended()
    assert [body["max_completion_tokens"] for body in way.sent] == [32_000, 5]
    assert (way.agent.status, way.remembered) == (200, NOTHING)


async def test_what_an_agent_had_quoted_is_conceded_to_it_alone() -> None:
    error = openai("Error while downloading https://x.test/max_tokens,exceed,1.")
    way = Way(Response(400, json.dumps(error).encode()), Response(200, ANSWER))
    await way.ended(messages=[{"role": "user", "content": "https://x.test/max_tokens,exceed,1"}])
    assert (way.agent.status, len(way.sent), way.remembered) == (200, 2, NOTHING)


async def test_a_second_call_that_is_limited_rotates_with_what_was_conceded() -> None:
    way = Way(refusal(), Response(429, b"{}"), Response(200, CHUNK))
    event = await way.ended(stream=True)
    assert [(one.credential, one.status) for one in event.attempts] == [("a", 400), ("a", 429), ("b", 200)]
    assert [FIELD in body for body in way.sent] == [True, False, False]
    assert way.remembered == Concessions(asks_usage=False)


async def test_each_addition_is_conceded_once_and_the_last_error_is_the_agents() -> None:
    large = json.dumps(openai("max_tokens is too large: this model supports at most 16384 completion tokens")).encode()
    answers = [refusal(), refusal("max_completion_tokens"), Response(400, large), refusal("max_tokens")]
    way = Way(*answers, Response(200, CHUNK))
    event = await way.ended(stream=True)
    assert (len(event.attempts), way.agent.status) == (CONCEDED_MAX + 1, 400)
    assert "max_tokens" in json.loads(way.agent.answered)["error"]["message"]
    last = way.sent[-1]
    assert (last["max_tokens"], "max_completion_tokens" in last, FIELD in last) == (16_384, False, False)


async def test_a_provider_that_always_wants_less_is_not_asked_without_end() -> None:
    wanted = [
        json.dumps(openai(f"max_tokens is too large: at most {n} completion tokens")).encode() for n in (9, 8, 7, 6, 5)
    ]
    way = Way(*[Response(400, one) for one in wanted])
    event = await way.ended()
    assert (len(event.attempts), way.agent.status, way.remembered) == (CONCEDED_MAX + 1, 400, NOTHING)


@pytest.mark.parametrize("stream", [False, True])
async def test_the_cap_that_was_sent_last_is_told(stream: bool) -> None:
    large = openai("max_tokens is too large: 32000. This model supports at most 16384 completion tokens", "max_tokens")
    way = Way(Response(400, json.dumps(large).encode()), Response(200, CHUNK if stream else ANSWER))
    await way.ended(stream=stream)
    assert way.agent.headers[b"x-keyforge-max-output-tokens"] == b"16384"
    assert way.remembered == Concessions(cap_max=16_384)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("asked", [{}, {"max_tokens": 7}, {"max_completion_tokens": 7}])
async def test_every_completion_tells_its_cap(stream: bool, asked: dict[str, int]) -> None:
    way = Way(Response(200, CHUNK if stream else ANSWER))
    await way.ended(stream=stream, **asked)
    told = b"7" if asked else b"%d" % OUTPUT_TOKENS_DEFAULT
    assert way.agent.headers[b"x-keyforge-max-output-tokens"] == told


async def test_after_the_head_of_a_stream_went_out_nothing_is_conceded() -> None:
    """Its head has told the cap."""
    way = Way(refusal(), Response(200, CHUNK))
    relay = Relay(way.registry, way.clock, drain_s=1.0, drain_bytes_max=1024)
    request = on_its_way(way.agent, priced(stream=True), way.outcome)
    assert request.stream is not None
    await request.stream.keep_alive(0.0)
    failed = await way._dispatch.send(request, relay.take)
    assert failed is not None
    assert len(way.upstream.calls) == 1


async def test_an_error_that_may_have_cost_something_is_not_followed() -> None:
    body = openai(f"Unknown parameter: '{FIELD}'.") | {"choices": [{"index": 0}], "usage": {"prompt_tokens": 3}}
    answer = Response(200, json.dumps(body).encode())
    answer.headers = [(b"content-type", b"application/json")]
    way = Way(answer, Response(200, CHUNK))
    await way.ended(stream=True)
    assert len(way.upstream.calls) == 1
