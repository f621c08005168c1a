"""Errors that are odd in their form: too deep, too long, in another encoding, under another content type."""

import json
from collections.abc import Sequence

import pytest

from keyforge.contracts.usage import Usage
from keyforge.edge.core.dialects.openai_chat.errors import error_event
from keyforge.edge.core.dialects.provider_error import WORD_CHARS_MAX, error_of
from keyforge.edge.core.dialects.waits import WAIT_S_MAX, wait_s
from tests.unit.edge_twins import NOW, Response
from tests.unit.test_edge_relay import DONE, STOP, USAGE, WORD, Relayed

ERROR = {"error": {"message": "slow down", "code": 429}}


@pytest.mark.parametrize("levels", [1, 7, 9, 100, 480, 700, 900])
@pytest.mark.parametrize("head", [200, 400])
@pytest.mark.parametrize("around", ['{"error": %s}', "%s", '{"error": {"message": %s}}', '{"detail": %s}'])
async def test_an_error_of_any_depth_has_an_answer(levels: int, head: int, around: str) -> None:
    for text in ("[" * levels + "1" + "]" * levels, '{"error": [' * levels + "1" + "]}" * levels):
        relayed = Relayed()
        await relayed.whole(Response(head, (around % text).encode()))
        assert relayed.agent.status == (head if head >= 400 else 502)
        assert json.loads(relayed.agent.answered)["error"]


@pytest.mark.parametrize("levels", [100, 400, 800, 900])
@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_of_any_depth_has_an_answer(levels: int, *, stream: bool) -> None:
    """In the form that was not asked for, so that it is written again."""
    deep = '{"a": ' * levels + "1" + "}" * levels
    part, kind = ("message", "%s") if stream else ("delta", "data: %s\n\ndata: [DONE]\n\n")
    whole = f'{{"choices": [{{"index": 0, "{part}": {{"content": "x", "b": {deep}}}, "finish_reason": "stop"}}]}}'
    relayed = Relayed(stream=stream)
    answered = await relayed.stream((kind % whole).encode())
    assert relayed.outcome.name in ("ok", "upstream_malformed")
    assert (relayed.agent.status == 200) == (relayed.outcome.name == "ok")
    assert answered


@pytest.mark.parametrize(
    "code", ["²²²", "４２９", "٤٢٩", "1e3", "-42", "4290", "4" * 5_000, "", 10**30, 429.0, True, None]
)
def test_any_code_is_read(code: object) -> None:
    found = error_of(json.dumps({"error": {"message": "x", "code": code}}).encode(), 200)
    assert found is not None
    assert found.status == (429 if code in ("４２９", "٤٢٩") else 502)


def test_a_long_code_is_cut() -> None:
    for words in ("api_key_", "insufficient ", "a" * 100):
        text = words * (8_000_000 // len(words))
        document = {
            "error": {"message": "x", "code": text, "details": [{"reason": text}], "metadata": {"error_type": text}}
        }
        found = error_of(json.dumps(document).encode(), 400)
        assert found is not None
        assert max(map(len, found.words)) <= WORD_CHARS_MAX


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
async def test_an_error_in_another_encoding_is_written_again(encoding: str) -> None:
    relayed = Relayed()
    await relayed.whole(Response(400, json.dumps(ERROR).encode(encoding)))
    assert json.loads(relayed.agent.answered.decode())["error"]["message"] == "slow down"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_an_error_event_is_one_event_however_its_lines_end(end: str) -> None:
    body = json.dumps(ERROR, indent=2).replace("\n", end).encode()
    line, blank, rest = error_event(body).partition(b"\n\n")
    assert (blank, rest, b"\r" in line, b"\n" in line) == (b"\n\n", b"", False, False)
    assert json.loads(line.removeprefix(b"data: ")) == ERROR


async def test_an_error_after_an_early_head_is_one_event() -> None:
    relayed = Relayed(stream=True)
    assert relayed.way.stream is not None
    await relayed.way.stream.keep_alive(1.0)
    answered = await relayed.stream(json.dumps(ERROR, indent=2).replace("\n", "\r\n").encode(), status=503)
    events = [one for one in answered.split(b"\n\n") if one.startswith(b"data: ")]
    assert [json.loads(one.removeprefix(b"data: ")) for one in events] == [ERROR]


@pytest.mark.parametrize(
    "pieces",
    [[WORD, STOP % 0, USAGE, DONE], [WORD + STOP % 0 + USAGE + DONE], [b": hi\n\n", WORD, STOP % 0, USAGE, DONE]],
)
@pytest.mark.parametrize(
    "named", [b"application/json", b"application/x-ndjson", b"application/stream+json; charset=utf-8"]
)
async def test_a_stream_is_one_whatever_its_content_type(pieces: Sequence[bytes], named: bytes) -> None:
    relayed = Relayed(stream=True)
    answer = Response(200, *pieces)
    answer.headers = [(b"content-type", named)]
    answered = await relayed.whole(answer)
    assert answered == b"".join(pieces).replace(USAGE, b"")
    assert (relayed.outcome.name, relayed.outcome.usage) == ("ok", Usage(input_tokens=3, output_tokens=1))


@pytest.mark.parametrize("first", [b"", b'data: {"choices":[{"index":0,"delta":{"role":"assistant"}}]}\n\n', WORD])
async def test_an_error_in_a_stream_that_was_not_asked_for_is_no_stream(first: bytes) -> None:
    relayed = Relayed()
    await relayed.whole(Response(200, first + b"data: " + json.dumps(ERROR).encode() + b"\n\n"))
    assert relayed.agent.status == 429
    assert json.loads(relayed.agent.answered)["error"]["message"] == "slow down"


@pytest.mark.parametrize("value", [b"1e60", b"999999999999", b"9" * 64, b"1e307"])
def test_no_wait_is_longer_than_a_month(value: bytes) -> None:
    found = wait_s([(b"retry-after", value)], None, NOW)
    assert found is not None
    assert 0 <= found <= WAIT_S_MAX
