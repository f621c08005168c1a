"""The strict reader of JSON bodies: each bad body has its own error, a good one arrives as it was sent."""

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyforge.runtime.body import DEPTH_MAX, Message, StrictBody, check_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=20,
)


UTF_16_AND_32 = ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be")
"""Without an order they begin with a mark."""


@pytest.mark.parametrize(
    ("body", "type_"),
    [
        (b"{", "json_invalid"),
        (b"\xff", "json_invalid"),
        (b'\xef\xbb\xbf{"a": 1}', "json_invalid"),
        *(('{"a": 1}'.encode(name), "json_invalid") for name in UTF_16_AND_32),
        (b'{"a": NaN}', "json_invalid"),
        (b'{"a": 1, "a": 1}', "json_duplicate_key"),
        (b'{"b": [{"a": 1, "\\u0061": 2}]}', "json_duplicate_key"),
        (b"[" * (DEPTH_MAX + 1) + b"]" * (DEPTH_MAX + 1), "json_too_deep"),
        (b"[" * 200_000, "json_too_deep"),
    ],
)
def test_bad_bodies(body: bytes, type_: str) -> None:
    wrong = check_json(body)
    assert wrong is not None
    assert wrong.kind.type == type_


@given(JSON)
def test_good_bodies(value: object) -> None:
    assert check_json(json.dumps(value).encode()) is None


async def served(
    chunks: list[bytes], *, body_bytes_max: int = 100, body_s_max: float = 5, gone: bool = False, slow: bool = False
) -> tuple[int, bytes]:
    """Send `chunks` through StrictBody to an app that answers 200 with the body it was given. `slow`: no end comes."""
    waiting = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    waiting.append({"type": "http.disconnect"} if gone else {"type": "http.request", "body": b"", "more_body": False})
    sent: list[Message] = []

    async def app(_scope: Message, receive: object, send: object) -> None:
        message = await receive()  # type: ignore[operator]
        await send({"type": "http.response.start", "status": 200, "headers": []})  # type: ignore[operator]
        await send({"type": "http.response.body", "body": message["body"]})  # type: ignore[operator]

    async def receive() -> Message:
        if slow and len(waiting) == 1:
            await asyncio.Event().wait()
        return waiting.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    strict = StrictBody(app, body_bytes_max=body_bytes_max, body_s_max=body_s_max)
    await strict({"type": "http", "method": "POST"}, receive, send)
    return sent[0]["status"], sent[1]["body"]


async def test_a_good_body_arrives_in_one_piece() -> None:
    assert await served([b'{"a"', b": 1}"]) == (200, b'{"a": 1}')


async def test_no_body_is_the_apps_to_judge() -> None:
    assert await served([]) == (200, b"")


async def test_half_a_character_twice_is_refused_in_whole_ones() -> None:
    status, body = await served([b'{"\\ud800": 1, "\\ud800": 2}'])
    error = json.loads(body)["error"]
    assert (status, error["type"], error["param"]) == (400, "json_duplicate_key", "?")


async def test_a_body_over_the_bound_is_refused_as_it_comes() -> None:
    status, body = await served([b"[" + b"1," * 40, b"1," * 40])
    assert (status, json.loads(body)["error"]["type"]) == (413, "body_too_large")


async def test_a_body_that_ends_early() -> None:
    status, body = await served([b"[1,"], gone=True)
    assert (status, json.loads(body)["error"]["type"]) == (400, "body_incomplete")


async def test_a_body_that_never_ends_is_not_waited_for() -> None:
    async with asyncio.timeout(60):
        status, body = await served([b"[1,"], slow=True, body_s_max=0.05)
    assert (status, json.loads(body)["error"]["type"]) == (400, "body_incomplete")
