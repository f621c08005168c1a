"""What an error cost where its provider says so in part, late, or beside what the model wrote: never too little."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from keyforge.contracts.usage import Usage
from keyforge.edge.application.provider_call import AFTER_END_S
from tests.unit.edge_twins import Response
from tests.unit.test_edge_relay import DONE, STOP, USAGE, WORD, Relayed

ERROR: dict[str, Any] = {"error": {"message": "slow down", "code": 429}}
USED = Usage(input_tokens=3, output_tokens=1)
COUNTED = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
TEXT = {"index": 0, "delta": {"content": "a thought"}, "finish_reason": "error"}


def event(document: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": 3}, {"completion_tokens": 1}, {"total_tokens": 4}, {"prompt_tokens": -1}, "three",
        {"prompt_tokens": 3.5, "completion_tokens": 1}, {"input_tokens": 7}, {"promptTokenCount": "x"},
    ],
    ids=json.dumps,
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
async def test_a_usage_that_makes_no_sense_was_billed_all_the_same(usage: Any, *, stream: bool) -> None:
    relayed = Relayed(stream=stream)
    document = {**ERROR, "choices": None, "usage": usage}
    body = event(document) if stream else json.dumps(document).encode()
    assert b"slow down" in await relayed.stream(body)
    assert (relayed.outcome.usage, relayed.outcome.may_be_repeated) == (None, False)


@pytest.mark.parametrize(
    "document",
    [
        {**ERROR, "choices": [TEXT]},
        {**ERROR, "choices": [{**TEXT, "delta": {"reasoning_content": "hm"}}]},
        {**ERROR, "choices": [{**TEXT, "delta": {"tool_calls": [{"function": {"arguments": "{}"}}]}}]},
        {**ERROR, "choices": [{"index": 0, "text": "a thought"}]},
        {**ERROR, "choices": [{"index": 0, "message": {"content": "a thought"}}]},
        {**ERROR, "meta": {"billed_units": {"input_tokens": 3, "output_tokens": 1}}},
    ],
)
@pytest.mark.parametrize("bare", [False, True])
async def test_text_beside_an_error_was_billed(document: dict[str, Any], *, bare: bool) -> None:
    """In the first event of a stream, or whole in place of one."""
    relayed = Relayed(stream=True)
    body = json.dumps(document).encode() + b"\n" if bare else event(document)
    assert b"slow down" in await relayed.stream(body)
    assert relayed.outcome.usage is None


@pytest.mark.parametrize("delta", [{}, {"content": ""}, {"role": "assistant", "content": None}])
async def test_no_text_beside_an_error_costs_nothing(delta: dict[str, Any]) -> None:
    """OpenRouter's error as the first event."""
    relayed = Relayed(stream=True)
    await relayed.stream(event({**ERROR, "choices": [{"index": 0, "delta": delta, "finish_reason": "error"}]}))
    assert (relayed.agent.status, relayed.outcome.usage) == (429, Usage())


async def test_a_usage_before_an_error_was_billed() -> None:
    """It is hidden, so nothing was shown, and it is not final."""
    relayed = Relayed(stream=True)
    await relayed.stream(USAGE, event(ERROR))
    assert (relayed.agent.status, relayed.outcome.usage) == (429, None)


@pytest.mark.parametrize("before", [b"", WORD])
@pytest.mark.parametrize("after", [USAGE, USAGE + DONE, b": done\n\n" + USAGE.rstrip(), USAGE.replace(b"\n", b"\r\n")])
@pytest.mark.parametrize("pieces", ["one", "two", "bytes"])
async def test_a_usage_after_an_error_counts(before: bytes, after: bytes, pieces: str) -> None:
    whole = before + event(ERROR) + after + b"\n\n"
    cuts = {"one": [whole], "two": [before + event(ERROR), after + b"\n\n"], "bytes": [bytes([one]) for one in whole]}
    relayed = Relayed(stream=True)
    answered = await relayed.stream(*filter(None, cuts[pieces]))
    assert (relayed.outcome.usage, relayed.outcome.source) == (USED, "provider")
    assert b"prompt_tokens" not in answered
    assert answered.count(b"slow down") == 1


async def test_an_error_whose_status_was_made_up_costs_nothing() -> None:
    """A 502 costs the reservation where a gateway answers so for a model that may have run: none did here."""
    for error in (
        {"message": "boom"},
        {"message": "boom", "code": "internal_fault"},
        "boom",
        {"code": "²²²", "message": "boom"},
    ):
        relayed = Relayed()
        assert b"boom" in await relayed.whole(Response(200, json.dumps({"error": error}).encode()))
        assert (relayed.agent.status, relayed.outcome.usage) == (502, Usage())
    relayed = Relayed()
    await relayed.whole(Response(200, b'{"error":{"code":502,"message":"boom"}}'))
    assert relayed.outcome.usage is None, "the provider names it"


NOTHING_MADE = {"prompt_tokens": 3, "completion_tokens": 0, "total_tokens": 3}


@pytest.mark.parametrize("message", [{"content": "word"}, {"reasoning": "word"}, {"content": [{"text": "word"}]}])
async def test_a_completion_of_no_tokens_that_has_text_is_not_known(message: dict[str, Any]) -> None:
    answer = {"choices": [{"index": 0, "message": message}], "usage": NOTHING_MADE}
    relayed = Relayed()
    await relayed.whole(Response(200, json.dumps(answer).encode()))
    assert (relayed.outcome.name, relayed.outcome.usage) == ("ok", None)
    chunk = {"choices": [{"index": 0, "delta": message}]}
    relayed = Relayed(stream=True)
    await relayed.stream(event(chunk), STOP % 0, event({"choices": [], "usage": NOTHING_MADE}), DONE)
    assert (relayed.outcome.name, relayed.outcome.usage) == ("ok", None)


@pytest.mark.parametrize("message", [{"content": ""}, {"role": "assistant", "content": None}, {"refusal": ""}])
async def test_a_completion_of_no_tokens_that_has_no_text_is_known(message: dict[str, Any]) -> None:
    answer = {"choices": [{"index": 0, "message": message}], "usage": NOTHING_MADE}
    relayed = Relayed()
    await relayed.whole(Response(200, json.dumps(answer).encode()))
    assert relayed.outcome.usage == Usage(input_tokens=3)
    relayed = Relayed(stream=True)
    chunk = {"choices": [{"index": 0, "delta": message}]}
    await relayed.stream(event(chunk), STOP % 0, event({"choices": [], "usage": NOTHING_MADE}), DONE)
    assert relayed.outcome.usage == Usage(input_tokens=3)


class Open(Response):
    """An answer whose connection stays open after its last piece."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in super().__aiter__():
            yield piece
        await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("last", "name", "shown"),
    [
        (DONE, "ok", DONE),
        (DONE[:-1], "ok", DONE),
        (DONE + b": bye\n\n", "ok", DONE),
        (event(ERROR), "upstream_error", event(ERROR)),
    ],
)
async def test_a_stream_that_has_ended_is_not_waited_for(last: bytes, name: str, shown: bytes) -> None:
    relayed = Relayed(stream=True)
    began = asyncio.get_running_loop().time()
    assert await relayed.whole(Open(200, WORD, STOP % 0, USAGE, last)) == WORD + STOP % 0 + shown
    assert asyncio.get_running_loop().time() - began < AFTER_END_S + 20
    assert (relayed.outcome.name, relayed.outcome.usage, relayed.agent.ended) == (name, USED, True)


async def test_a_usage_comes_a_moment_after_the_end() -> None:
    class Late(Response):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            async for piece in super().__aiter__():
                yield piece
            await asyncio.sleep(0.1)  # a packet of its own
            yield USAGE

    relayed = Relayed(stream=True)
    await relayed.whole(Late(200, WORD, STOP % 0, DONE))
    assert (relayed.outcome.name, relayed.outcome.usage) == ("ok", USED)
