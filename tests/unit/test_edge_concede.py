"""An error that refuses what we added to a request is known by its words, whoever wrote them; any other is not."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyforge.edge.core.dialects.additions import OUTPUT_TOKENS_DEFAULT, Concessions
from keyforge.edge.core.dialects.openai_chat.concede import CAP_UNNAMED
from keyforge.edge.core.dialects.provider_error import error_of
from keyforge.edge.core.judge import OutgoingRequest
from tests.unit.edge_outgoing import openai_error as openai
from tests.unit.edge_outgoing import outgoing

FIELD = "stream_options"
KNOWN = "`max_tokens`, `max_completion_tokens`, `stream_options` at line 1"


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
        pytest.param(
            422,
            f"Failed to deserialize the JSON body: unknown field `{field}`, expected one of `model`, {KNOWN}",
            id="serde",
        ),
        pytest.param(400, {"message": f"#: extraneous key [{field}] is not permitted"}, id="Bedrock"),
        pytest.param(422, {"message": f"unknown field: parameter '{field}' is not a valid field"}, id="Cohere"),
        pytest.param(400, openai(f"{field} is not supported", field), id="by `param`"),
        pytest.param(400, openai("Unsupported parameter", f"body.{field}"), id="by `param` alone"),
    ]


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
    reader = request.speaks.stream(request.request, request.workload, 9, request.sending.quirks)
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


def test_all_that_one_error_refuses_is_conceded_at_once() -> None:
    names = (FIELD, "max_tokens")
    second = again(outgoing(stream=True), 422, {"detail": [item for name in names for item in extra(name)["detail"]]})
    assert second is not None
    assert second.sending.concessions == Concessions("max_completion_tokens", asks_usage=False)


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
    openai("Unknown parameter: 'foo'. Supported parameters are max_tokens, max_completion_tokens, stream_options."),
    f"unknown field `foo`, expected one of {KNOWN}",
    openai("max_tokens is limited for this model"),
    openai("max_tokens is too large: this model supports at most 16 completion tokens"),
    openai("max_completion_tokens must be greater than 15", "max_completion_tokens"),
    openai("This model's maximum context length is 8192 tokens. " + PROMPT.format(41_000, 9_000)),
    openai("This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens."),
    openai("The model `max` does not exist", "model"),
    openai("not_max_tokens is unknown, and max_tokens_more"),
    {"detail": [{"type": "int_parsing", "loc": ["body", "n"], "msg": "Input should be a valid integer"}]},
    *("Bad Request", {"error": [None]}, {}),
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
