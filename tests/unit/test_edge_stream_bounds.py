"""What bounds a stream: its events by what is held, its text by what was reserved."""

from typing import Any

import pytest

from keyforge.edge.application.provider_call import BODY_BYTES_MAX
from keyforge.edge.core.dialects.stream_bounds import (
    BESIDE_TEXT_BYTES,
    EVENT_BYTES_MAX,
    EVENT_BYTES_MIN,
    STREAM_BYTES_PER_TOKEN,
    TOKEN_BYTES_MAX,
    event_bytes_max,
    text_bytes_max,
)
from tests.unit.event_stream import event, run


@pytest.mark.parametrize(
    ("tokens", "bytes_max"),
    [
        (0, EVENT_BYTES_MIN),
        (100, EVENT_BYTES_MIN),
        (1_000, 1_000 * STREAM_BYTES_PER_TOKEN),
        (1_000_000, EVENT_BYTES_MAX),
    ],
)
def test_an_event_is_bounded_by_the_reservation_within_bounds(tokens: int, bytes_max: int) -> None:
    assert event_bytes_max(tokens) == bytes_max
    assert EVENT_BYTES_MAX == BODY_BYTES_MAX, "an answer that is held in memory is no larger"


@pytest.mark.parametrize(
    ("written", "tokens", "over"),
    [
        (0, 0, False),
        (BESIDE_TEXT_BYTES, 0, False),
        (BESIDE_TEXT_BYTES + 1, 0, True),
        (TOKEN_BYTES_MAX, 1, False),
        (100 * TOKEN_BYTES_MAX + BESIDE_TEXT_BYTES, 100, False),
        (100 * TOKEN_BYTES_MAX + BESIDE_TEXT_BYTES + 1, 100, True),
    ],
)
def test_more_text_than_the_longest_tokens_have_is_over_the_reservation(written: int, tokens: int, over: bool) -> None:
    assert (written > text_bytes_max(tokens)) == over


LONGEST = {
    "cl100k, o200k, Llama 3, Qwen, DeepSeek": b" " * 128,
    "Claude 2": b" " * 1024,
    "Llama 4": b" " + b"." * 112,
    "Tekken": b"*" * 78,
}


@pytest.mark.parametrize("token", LONGEST.values(), ids=LONGEST)
def test_no_answer_within_its_cap_is_over_it(token: bytes) -> None:
    for tokens in (1, 16, 4_096):
        stream = event({"content": (token * tokens).decode()})
        assert run(stream)[1].output_bytes <= text_bytes_max(tokens)


@pytest.mark.parametrize(
    "delta",
    [
        {"images": [{"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 99_000}}]},
        {"audio": {"id": "a", "data": "A" * 99_000, "transcript": "hi"}},
        {"reasoning_details": [{"type": "reasoning.encrypted", "data": "A" * 99_000}]},
        {"reasoning_details": [{"type": "reasoning.text", "text": "x", "signature": "A" * 99_000}]},
        {"tool_calls": [{"index": 0, "extra_content": {"google": {"thought_signature": "A" * 99_000}}}]},
        {"annotations": [{"type": "url_citation", "url_citation": {"content": "A" * 99_000}}]},
        {"executed_tools": [{"name": "search", "output": "A" * 99_000}]},
    ],
    ids=lambda delta: next(iter(delta)),
)
def test_what_is_no_text_is_no_runaway(delta: dict[str, Any]) -> None:
    meter = run(event(delta))[1]
    assert 1 <= meter.output_bytes < 10
    assert meter.begun
    text = {**delta, "content": "x" * 5_000}
    assert 5_000 <= run(event(text))[1].output_bytes < 5_010


def test_the_number_of_chunks_proves_nothing() -> None:
    meter = run(event({"content": "x"}) * 2_000)[1]
    assert meter.deltas == 2_000
    assert meter.output_bytes <= text_bytes_max(2)
