"""What a provider refuses of what we added to a request is conceded, and remembered once that was right; no more is."""

import json
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyforge.contracts.directory import PriceEntry
from keyforge.contracts.errors import Problem
from keyforge.contracts.events import RequestCompleted
from keyforge.contracts.ids import ModelName, PriceId
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
from keyforge.edge.core.dialects.openai_chat.concede import CAP_UNNAMED
from keyforge.edge.core.dialects.provider_error import error_of
from keyforge.edge.core.judge import OutgoingRequest, outgoing_for
from keyforge.edge.core.routing.catalogue import Route
from keyforge.edge.core.settlement.outcome import Outcome
from keyforge.edge.metrics import Metrics
from keyforge.runtime.clock import SetClock
from tests.unit.edge_twins import CHAT, EDGE, FREE, KEY, NOW, PROVIDER, Agent, Registry, Response, Upstream, priced
from tests.unit.edge_twins import admitted as on_its_way

FIELD = "stream_options"


def openai(message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


def extra(field: str) -> dict[str, Any]:
    item = {"type": "extra_forbidden", "loc": ["body", field], "msg": "Extra inputs are not permitted", "input": {}}
    return {"detail": [item]}


def vllm(field: str) -> dict[str, Any]:
    text = f"[{{'type': 'extra_forbidden', 'loc': ('body', '{field}'), 'msg': 'Extra inputs are not permitted'}}]"
    return {"object": "error", "message": text, "type": "BadRequestError", "param": None, "code": 400}


def spellings(field: str) -> list[Any]:
    """Return how providers word that they do not know a field, each from public reports or a framework's source."""
    google = f'Invalid JSON payload received. Unknown name "{field}": Cannot find field.'
    return [
        pytest.param(400, openai(f"Unknown parameter: '{field}'.", field, "unknown_parameter"), id="OpenAI"),
        pytest.param(400, openai(f"Unrecognized request argument supplied: {field}"), id="Azure"),
        pytest.param(400, {"code": "invalid argument", "error": f"Argument not supported: {field}"}, id="xAI"),
        pytest.param(400, openai(f"property '{field}' is unsupported, did you mean 'stream'?"), id="Groq"),
        pytest.param(422, extra(field), id="Mistral, FastAPI"),
        pytest.param(400, vllm(field), id="vLLM"),
        pytest.param(400, {"error": {"code": 400, "message": google, "status": "INVALID_ARGUMENT"}}, id="Gemini"),
        pytest.param(400, [{"error": {"code": 400, "message": google}}], id="Gemini, in a list"),
        pytest.param(400, {"error_code": "BAD_REQUEST", "message": f'json: unknown field "{field}"'}, id="Databricks"),
        pytest.param(422, f"Failed to deserialize the JSON body: unknown field `{field}`, expected one of", id="serde"),
        pytest.param(400, {"message": f"#: extraneous key [{field}] is not permitted"}, id="Bedrock"),
        pytest.param(422, {"message": f"unknown field: parameter '{field}' is not a valid field"}, id="Cohere"),
        pytest.param(400, openai(f"{field} is not supported", field), id="by `param`"),
        pytest.param(400, openai("Unsupported parameter", f"body.{field}"), id="by `param` alone"),
    ]


def outgoing(kind: str = "other", /, concessions: Concessions = NOTHING, **fields: Any) -> OutgoingRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}], **fields}
    parsed = CHAT.parse(json.dumps(body).encode())
    assert not isinstance(parsed, Problem), parsed
    price = PriceEntry(price_id=PriceId("p"), prices=FREE, max_output_tokens=None, context_tokens=None)
    found = outgoing_for(CHAT, parsed, Route(PROVIDER, ModelName("m"), kind, price), KEY, concessions)
    assert isinstance(found, OutgoingRequest), found
    return found


def encoded(body: Any) -> bytes:
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()


def again(request: OutgoingRequest, status: int, body: Any) -> OutgoingRequest | None:
    """Return what is sent after an answer with an error."""
    error = error_of(encoded(body), status)
    assert error is not None
    return request.conceding(error)


# --- usage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "body"), spellings(FIELD))
def test_a_stream_is_sent_once_more_without_the_wish_for_its_usage(status: int, body: Any) -> None:
    first = outgoing(stream=True)
    assert FIELD in json.loads(first.body)
    second = again(first, status, body)
    assert second is not None
    assert second.sending.concessions == Concessions(asks_usage=False)
    expected = json.loads(first.body)
    del expected[FIELD]
    assert json.loads(second.body) == expected
    assert again(second, status, body) is None


@pytest.mark.parametrize(("status", "body"), spellings(FIELD))
def test_what_the_agent_itself_asks_for_is_not_taken_back(status: int, body: Any) -> None:
    assert again(outgoing(stream=True, stream_options={"include_usage": True}), status, body) is None
    assert again(outgoing(), status, body) is None, "no stream, and nothing was asked for"


def test_an_agents_own_options_stay_without_what_was_added_to_them() -> None:
    first = outgoing(stream=True, stream_options={"include_obfuscation": False})
    second = again(first, 400, openai("Unknown parameter: 'stream_options.include_usage'."))
    assert second is not None
    assert json.loads(second.body)[FIELD] == {"include_obfuscation": False}
    for empty in ({}, {"include_usage": False}, None):
        gone = again(outgoing(stream=True, stream_options=empty), 400, openai(f"Unknown parameter: '{FIELD}'."))
        assert gone is not None
        assert FIELD not in json.loads(gone.body)


def test_usage_that_comes_unasked_is_shown() -> None:
    request = outgoing(stream=True, concessions=Concessions(asks_usage=False))
    reader = request.speaks.stream(request.request, request.workload, 9, request.quirks)
    chunk = b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}\n\n'
    assert reader.feed(chunk) == chunk


# --- the name of the cap ----------------------------------------------------------------------------------------------

INSTEAD = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."


@pytest.mark.parametrize(
    ("status", "body"),
    [
        pytest.param(400, openai(INSTEAD, "max_tokens", "unsupported_parameter"), id="OpenAI, as another kind"),
        pytest.param(400, {"error": {"message": INSTEAD, "code": "invalid_request_body"}}, id="Copilot"),
        *spellings("max_tokens"),
    ],
)
@pytest.mark.parametrize("asked", [{}, {"max_tokens": 50}, {"max_completion_tokens": 50}])
def test_the_cap_is_told_under_its_other_name(status: int, body: Any, asked: dict[str, Any]) -> None:
    first = outgoing(**asked)
    second = again(first, status, body)
    assert second is not None
    sent = json.loads(second.body)
    assert "max_tokens" not in sent
    assert sent["max_completion_tokens"] == (50 if asked else OUTPUT_TOKENS_DEFAULT) == first.sending.cap
    assert again(second, status, body) is None
    assert again(second, 400, openai("Unknown parameter: 'max_completion_tokens'.")) is None, "never without a cap"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        pytest.param(
            400, openai("property 'max_completion_tokens' is unsupported, did you mean 'max_tokens'?"), id="Groq once"
        ),
        *spellings("max_completion_tokens"),
    ],
)
def test_and_the_other_way_round(status: int, body: Any) -> None:
    second = again(outgoing("openai", max_tokens=50), status, body)
    assert second is not None
    sent = json.loads(second.body)
    assert (sent.get("max_tokens"), "max_completion_tokens" in sent) == (50, False)


def test_beside_a_prediction_the_cap_keeps_its_name() -> None:
    first = outgoing("openai", prediction={"type": "content", "content": "old"}, max_completion_tokens=50)
    assert json.loads(first.body)["max_tokens"] == 50
    assert again(first, 400, openai(INSTEAD, "max_tokens")) is None


# --- its value --------------------------------------------------------------------------------------------------------

PROMPT = "However, you requested {} tokens ({} in the messages, 32000 in the completion)."
LOWER: list[Any] = [
    pytest.param(
        openai(
            "max_tokens is too large: 32000. This model supports at most 16384 completion tokens, whereas you provided"
            " 32000.",
            "max_tokens",
            "invalid_value",
        ),
        16_384,
        True,
        id="OpenAI",
    ),
    pytest.param(
        openai("Invalid max_tokens value, the valid range of max_tokens is [1, 8192]"), 8_192, True, id="DeepSeek"
    ),
    pytest.param(
        {
            "type": "error",
            "error": {
                "type": "invalid_request_error",
                "message": "max_tokens: 32000 > 8192, which is the maximum allowed number of output tokens for"
                " claude-3-5-sonnet-20241022",
            },
        },
        8_192,
        True,
        id="Anthropic",
    ),
    pytest.param(
        openai(
            "`max_completion_tokens` must be less than or equal to `8,192`, the maximum value for"
            " `max_completion_tokens` is less than the `context_window` for this model"
        ),
        8_192,
        True,
        id="Groq",
    ),
    pytest.param(
        openai(
            "The parameter `max_tokens` specified in the request are not valid: integer above maximum value, expected a"
            " value <= 12288, but got 32000 instead. Request id: 0217752964393142fa50af"
        ),
        12_288,
        True,
        id="Doubao",
    ),
    pytest.param(openai("Range of max_tokens should be [1,8192]"), 8_192, True, id="Qwen"),
    pytest.param(openai("max_completion_tokens is limited for this model"), CAP_UNNAMED, True, id="Scaleway"),
    pytest.param(
        openai("This model's maximum context length is 8192 tokens. " + PROMPT.format(32_100, 100)),
        8_092,
        False,
        id="OpenAI, context",
    ),
    pytest.param(
        openai("This model's maximum context length is 131072 tokens. " + PROMPT.format(155_137, 123_137)),
        7_935,
        False,
        id="DeepSeek, context",
    ),
    pytest.param(
        openai(
            "'max_tokens' or 'max_completion_tokens' is too large: 32000. This model's maximum context length is 8192"
            " tokens and your request has 100 input tokens (32000 > 8192 - 100)."
        ),
        8_092,
        False,
        id="vLLM, context",
    ),
    pytest.param(
        openai(
            "This endpoint's maximum context length is 8192 tokens. However, you requested about 32010 tokens (10 of"
            " text input, 32000 in the output)."
        ),
        8_182,
        False,
        id="OpenRouter, context",
    ),
    pytest.param(
        openai(
            "input length and `max_tokens` exceed context limit: 190000 + 32000 > 200000, decrease input length or"
            " `max_tokens` and try again"
        ),
        10_000,
        False,
        id="Anthropic, context",
    ),
]


@pytest.mark.parametrize(("body", "lower", "lasts"), LOWER)
def test_a_cap_that_is_ours_and_too_large_is_lowered(body: Any, lower: int, lasts: bool) -> None:
    first = outgoing()
    second = again(first, 400, body)
    assert second is not None
    assert (json.loads(second.body)["max_tokens"], second.sending.cap) == (lower, lower)
    assert second.sending.concessions == Concessions(cap_max=lower, cap_max_lasts=lasts)
    assert second.worst == first.worst, "what was reserved stays"
    assert again(outgoing(max_tokens=32_000), 400, body) is None, "the agent's own is answered in the provider's words"


OTHER_ERRORS: list[Any] = [
    openai("Unsupported value: 'temperature' does not support 0.7 with this model.", "temperature"),
    openai("Unknown parameter: 'reasoning'.", "reasoning"),
    openai("max_completion_tokens must be greater than 15", "max_completion_tokens"),
    openai("This model's maximum context length is 8192 tokens. " + PROMPT.format(41_000, 9_000)),
    openai("This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens."),
    openai("The model `max` does not exist", "model"),
    openai("not_max_tokens is unknown, and max_tokens_more"),
    {"detail": [{"type": "int_parsing", "loc": ["body", "n"], "msg": "Input should be a valid integer"}]},
    "Bad Request",
    {},
]


@pytest.mark.parametrize("body", OTHER_ERRORS)
def test_what_is_about_something_else_concedes_nothing(body: Any) -> None:
    for request in (outgoing(stream=True, max_tokens=20), outgoing(stream=True, max_completion_tokens=20)):
        assert again(request, 400, body) is None
    assert again(outgoing(concessions=Concessions(cap_max=16)), 400, body) is None


@given(st.text(max_size=300), st.sampled_from([400, 404, 422]), st.booleans())
def test_whatever_a_provider_says_the_cap_stays_and_never_rises(words: str, status: int, stream: bool) -> None:
    request, sent = outgoing(stream=stream), []
    for text in (words, f"max_tokens {words}", f"context length is {words} max_tokens", f"unknown max_tokens {words}"):
        found = again(request, status, openai(text))
        if found is not None:
            sent.append(json.loads(found.body))
            assert 1 <= found.sending.cap <= request.sending.cap
    for body in sent:
        caps = [body[name] for name in ("max_tokens", "max_completion_tokens") if name in body]
        assert len(caps) == 1


# --- what is remembered -----------------------------------------------------------------------------------------------


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
        self.registry, self.clock, self.additions = Registry(("a", "a"), ("b", "b")), SetClock(NOW), Additions()
        self.upstream, self.agent = Upstream(*answers), Agent()
        self.outcome = Outcome(priced().reserve.request_id, KEY, EDGE, NOW, 60, 1)
        self._dispatch = Dispatch(
            self.registry,
            self.upstream,
            self.clock,
            Metrics(),
            self.additions,
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
        return self.additions.conceded(PROVIDER, "m", NOW)


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


def test_concessions_are_compared_by_value() -> None:
    assert msgspec.structs.replace(Concessions(asks_usage=False), asks_usage=True) == NOTHING
