"""What comes where a stream should be: a whole answer, an error in whatever form, text; and what it costs."""

import json
from typing import Any

import pytest

from keyforge.contracts.usage import Usage
from tests.unit.edge_twins import Response
from tests.unit.test_edge_relay import DONE, STOP, WORD, Relayed

COUNTED = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
USED = Usage(input_tokens=3, output_tokens=1)
ANSWER = {
    "id": "c", "object": "chat.completion", "usage": COUNTED,
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "word"}, "finish_reason": "stop"}],
}  # fmt: skip
ERROR = {"error": {"message": "slow down", "code": 429, "type": "rate_limit_exceeded"}}


def spelled(document: Any, indent: int | None) -> bytes:
    return json.dumps(document, indent=indent).encode()


def pieces(body: bytes, size: int) -> list[bytes]:
    return [body[at : at + size] for at in range(0, len(body), size)]


@pytest.mark.parametrize("size", [7, 10_000])
@pytest.mark.parametrize("before", [b"", b": keep-alive\n\n", b"\n\n\n"])
@pytest.mark.parametrize("indent", [None, 2])
async def test_a_whole_answer_is_shown_as_the_stream_that_was_asked_for(
    indent: int | None, before: bytes, size: int
) -> None:
    relayed = Relayed(stream=True)
    answered = await relayed.stream(*pieces(before + spelled(ANSWER, indent), size))
    assert answered.startswith(b"data: {")
    assert b'"content":"word"' in answered
    assert answered.endswith(DONE)
    assert (relayed.agent.status, relayed.agent.ended) == (200, True)
    assert (relayed.outcome.name, relayed.outcome.usage, relayed.outcome.source) == ("ok", USED, "provider")


@pytest.mark.parametrize(
    "body",
    [
        spelled(ERROR | {"usage": COUNTED}, None) + b"\n",
        spelled(ERROR | {"usage": COUNTED}, 2),
        b"data: " + spelled(ERROR | {"usage": COUNTED}, None) + b"\n\n",
        b"event: error\ndata: " + spelled(ERROR | {"usage": COUNTED}, None) + b"\n\n",
        b"event: error\ndata: " + spelled(ERROR["error"] | {"usage": COUNTED}, None) + b"\n\n",
    ],
)
async def test_a_usage_that_an_error_tells_counts_in_whichever_form_it_comes(body: bytes) -> None:
    relayed = Relayed(stream=True)
    assert b"slow down" in await relayed.stream(body)
    assert relayed.agent.status == 429
    assert (relayed.outcome.usage, relayed.outcome.source) == (USED, "provider")
    assert not relayed.outcome.may_be_repeated, "it was billed"


@pytest.mark.parametrize("indent", [None, 2])
async def test_an_error_alone_costs_nothing(indent: int | None) -> None:
    relayed = Relayed(stream=True)
    assert b"slow down" in await relayed.stream(spelled(ERROR, indent))
    assert (relayed.agent.status, relayed.outcome.name) == (429, "upstream_rate_limited")
    assert relayed.outcome.usage == Usage()
    assert relayed.outcome.may_be_repeated


@pytest.mark.parametrize(
    "text", [b"upstream connect error\n", b"data: upstream connect error\n\n", b"<html>upstream connect error</html>"]
)
async def test_text_is_the_providers_words_and_may_have_been_billed(text: bytes) -> None:
    relayed = Relayed(stream=True)
    assert b"upstream connect error" in await relayed.stream(text)
    assert (relayed.agent.status, relayed.outcome.name, relayed.outcome.usage) == (502, "upstream_error", None)


@pytest.mark.parametrize("body", [b'{"choices": [', b'{"id": "c"}', b"data: [1\n\n", b'{"choices": [{"delta": 1}]}\n'])
async def test_what_is_neither_is_malformed_and_may_have_been_billed(body: bytes) -> None:
    relayed = Relayed(stream=True)
    assert b"upstream_malformed" in await relayed.stream(body)
    assert (relayed.agent.status, relayed.outcome.usage) == (502, None)


async def test_once_content_was_shown_it_is_no_answer() -> None:
    relayed = Relayed(stream=True)
    answered = await relayed.stream(WORD, spelled(ANSWER, None) + b"\n", STOP % 0, DONE)
    assert answered == WORD + STOP % 0 + DONE
    assert await Relayed(stream=True).whole(Response(200, spelled(ERROR, None) + b"\n"))
