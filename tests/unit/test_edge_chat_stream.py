"""The stream meter: bytes pass unchanged, usage is read and kept from who did not ask, damage stops it in order."""

import json
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyforge.contracts.usage import Usage
from keyforge.edge.core.dialects.openai_chat.stream import StreamMeter
from keyforge.edge.core.dialects.stream_bounds import EVENT_BYTES_MIN
from keyforge.edge.core.pricing.workload import Workload

USED = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
DONE = b"data: [DONE]\n\n"


def event(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return b"data: " + json.dumps({"id": "c", "choices": choices, **more}).encode() + b"\n\n"


ROLE = event({"role": "assistant", "content": ""})
TEXT = event({"content": "héllo"})
TOOL = event(
    {"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}
)
STOP = event({}, "stop")
USAGE = event(usage=USED)
PLAIN = ROLE + TEXT + TOOL + STOP + USAGE + DONE


def run(stream: bytes, cuts: tuple[int, ...] = (), *, keep_usage: bool = True) -> tuple[bytes, StreamMeter]:
    meter = StreamMeter(keep_usage=keep_usage)
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    out = b"".join([meter.feed(stream[start:end]) for start, end in pairwise(edges)])
    return out + meter.end(), meter


def reading(meter: StreamMeter) -> tuple[Any, ...]:
    return meter.usage, meter.output_bytes, meter.deltas, meter.finished, meter.done, meter.fault, meter.error


cuts = st.lists(st.integers(0, 10_000), max_size=30).map(tuple)


@given(cuts)
def test_bytes_pass_unchanged_however_they_are_cut(at: Any) -> None:
    out, meter = run(PLAIN, at)
    assert out == PLAIN
    assert reading(meter) == (Usage(input_tokens=9, output_tokens=3), 9, 2, True, True, None, None)


@given(cuts)
def test_usage_is_kept_from_a_client_that_did_not_ask(at: Any) -> None:
    out, meter = run(PLAIN, at, keep_usage=False)
    assert out == ROLE + TEXT + TOOL + STOP + DONE
    assert meter.usage == Usage(input_tokens=9, output_tokens=3)


def test_the_same_piece_comes_out_without_a_copy() -> None:
    piece = TEXT + STOP
    assert StreamMeter(keep_usage=True).feed(piece) is piece


def test_a_line_goes_out_as_soon_as_it_is_whole() -> None:
    meter = StreamMeter(keep_usage=False)
    assert meter.feed(TEXT[:-1]) == TEXT[:-1]
    assert meter.close_event() == b"\n"
    assert meter.feed(b"\n") == b"\n"
    assert meter.close_event() == b""
    assert meter.feed(b": keep-alive\n") == b": keep-alive\n"


def test_usage_beside_choices_is_cut_out_of_the_event() -> None:
    usage = b'"usage":{"prompt_tokens":1,"completion_tokens":1}'
    stream = b'data: {"id":"c", "choices":[{"delta":{"content":"x"}, "n": 1.50}], ' + usage + b"}\n\n"
    out, meter = run(stream, keep_usage=False)
    assert out == b'data: {"id":"c","choices":[{"delta":{"content":"x"}, "n": 1.50}]}\n\n'
    meter.feed(DONE)
    assert meter.usage == Usage(input_tokens=1, output_tokens=1)
    assert run(stream)[0] == stream


def test_null_usage_is_left_alone() -> None:
    stream = event({"content": "x"}, usage=None) + DONE
    assert run(stream, keep_usage=False)[0] == stream


def test_the_last_usage_counts() -> None:
    stream = event({"content": "x"}, usage=USED)
    assert run(stream)[1].usage is None, "what was used so far is not what is billed"
    stream += event({}, "stop", usage={**USED, "completion_tokens": 5})
    assert run(stream)[1].usage == Usage(input_tokens=9, output_tokens=5)
    assert run(stream + event(usage=None))[1].usage == Usage(input_tokens=9, output_tokens=5)
    assert run(STOP + event(usage=USED) + event(usage={**USED, "prompt_tokens": -1}))[1].usage is None


def test_usage_counts_when_every_completion_has_finished() -> None:
    def ended(index: int) -> bytes:
        return event({}, "stop", usage=USED).replace(b'"index": 0', b'"index": %d' % index)

    meter = StreamMeter(keep_usage=True, completions=2)
    meter.feed(ended(0) + ended(0))
    assert (meter.finished, meter.usage) == (False, None), "the other one still writes"
    meter.feed(ended(1))
    assert (meter.finished, meter.usage) == (True, Usage(input_tokens=9, output_tokens=3))
    one = StreamMeter(keep_usage=True, completions=2)
    one.feed(ended(0) + DONE)
    assert one.usage == Usage(input_tokens=9, output_tokens=3), "a provider that makes one only"


def test_usage_in_front_of_more_text_is_not_what_is_billed() -> None:
    assert run(event({"content": "x"}, usage=USED) + TEXT + STOP)[1].usage is None
    assert run(event({"content": "x"}, usage=USED) + TEXT + DONE)[1].usage is None
    assert run(STOP + USAGE + TEXT)[1].usage is None


def test_a_chunk_of_several_lines_is_written_again_on_one() -> None:
    spread = b'data: {"choices": [\ndata: {"delta": {"content": "x"}}],\ndata: "usage": {"prompt_tokens": 1}}\n\n'
    assert run(spread, keep_usage=False)[0] == b'data: {"choices":[ {"delta": {"content": "x"}}]}\n\n'
    assert run(spread)[0] == spread


def test_usage_in_groqs_own_place() -> None:
    assert run(event({}, "stop", x_groq={"usage": USED}))[1].usage == Usage(input_tokens=9, output_tokens=3)


def test_the_reported_cost_is_kept() -> None:
    assert run(event(usage={**USED, "cost": 0.5}))[1].reported_cost_nusd == 500_000_000


@pytest.mark.parametrize(
    ("delta", "output_bytes", "deltas"),
    [
        ({"role": "assistant", "content": ""}, 0, 0),
        ({"content": None}, 0, 0),
        ({"content": "é"}, 2, 1),
        ({"content": "\ud83d"}, 3, 1),
        ({"reasoning_content": "abc", "content": "d"}, 4, 1),
        ({"reasoning_details": [{"type": "reasoning.text", "text": "abc"}]}, 3, 1),
        ({"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}}]}, 4, 1),
        ({"a field of tomorrow": {"deep": ["abc"]}}, 3, 1),
    ],
)
def test_everything_that_a_model_wrote_is_counted(delta: Any, output_bytes: Any, deltas: Any) -> None:
    out, meter = run(event(delta))
    assert (meter.output_bytes, meter.deltas, meter.fault) == (output_bytes, deltas, None)
    assert out == event(delta)


@pytest.mark.parametrize(
    ("bad", "fault"),
    [
        (b'data: {"id": "c", "choi\n\n', "not_json"),
        (b"data: hello\n\n", "not_json"),
        (b'data: {"id":1}\ndata: {"id":2}\n\n', "not_json"),
        (b"data: [1]\n\n", "not_a_chunk"),
        (b'data: {"choices": "x"}\n\n', "not_a_chunk"),
        (b'data: {"choices": [{"delta": "x"}]}\n\n', "not_a_chunk"),
        (b'data: {"choices": ' + b"[" * 50_000 + b"\n\n", "not_a_chunk"),
        (b'data: {"usage": ' + b"[" * 50_000 + b"\n\n", "not_json"),
        (b"data: 1\rdata: 2\n\n", "not_a_chunk"),
        (b"data: " + b"x" * (EVENT_BYTES_MIN + 1), "event_too_large"),
        (b": " + b"x" * EVENT_BYTES_MIN + b"\n", "event_too_large"),
        (b"id: 1\n" * (EVENT_BYTES_MIN // 6 + 1), "event_too_large"),
        (b"event: x\n" + b"data: 1\n" * (EVENT_BYTES_MIN // 8 + 1), "event_too_large"),
    ],
)
def test_damage_stops_the_stream_in_good_order(bad: Any, fault: Any) -> None:
    meter = StreamMeter(keep_usage=True)
    pieces = [TEXT, bad, TEXT, USAGE]
    assert [meter.feed(piece) for piece in pieces][::2] == [TEXT, b""]
    assert meter.fault == fault
    assert meter.usage is None
    assert meter.close_event() in (b"", b"\n")


def test_a_providers_error_stops_the_stream_and_is_kept() -> None:
    error = b'{"error":{"message":"broke","type":"server_error"}}'
    out, meter = run(TEXT + b"event: error\ndata: " + error + b"\n\n" + TEXT)
    assert out == TEXT
    assert meter.error == error
    assert meter.close_event() == b""


ERROR = b'data: {"error":{"message":"broke","type":"server_error"}}\n\n'


@pytest.mark.parametrize("keep_usage", [True, False])
@pytest.mark.parametrize(
    "pieces", [[TEXT + ERROR + TEXT], [TEXT, ERROR, TEXT], [TEXT, ERROR[:9], ERROR[9:] + TEXT]], ids=len
)
def test_a_providers_error_is_kept_in_whatever_pieces_it_comes(pieces: list[bytes], keep_usage: bool) -> None:
    meter = StreamMeter(keep_usage=keep_usage)
    assert b"".join(meter.feed(piece) for piece in pieces) == TEXT
    assert meter.error == ERROR[6:-2]


def test_a_line_that_does_not_end_is_bounded() -> None:
    meter, piece = StreamMeter(keep_usage=True), b"x" * (EVENT_BYTES_MIN // 4)
    given_ = 0
    while meter.fault is None:
        meter.feed(piece)
        given_ += len(piece)
        assert given_ <= EVENT_BYTES_MIN + len(piece)
    assert meter.fault == "event_too_large"


@given(cuts)
def test_nothing_passes_after_done(at: Any) -> None:
    out, meter = run(TEXT + DONE + TEXT + b": comment\n\nid: 3\n\n<html>", at)
    assert out == TEXT + DONE
    assert meter.done


@pytest.mark.parametrize("keep_usage", [True, False])
def test_odd_but_legal_streams(keep_usage: Any) -> None:
    stream = (
        b": OPENROUTER PROCESSING\n\nretry: 5\n\nevent: message\r\nid: 1\r\ndata: {}\r\n\r\ndata:\n\n"
        b'data: {"choices":\ndata: []}\n\ndata:{"choices":[]}\n\ndata: [DONE]\n\n'
    )
    out, meter = run(stream, keep_usage=keep_usage)
    assert out == stream
    assert meter.fault is None
    assert meter.done


def test_a_last_line_without_an_end_is_read() -> None:
    assert run(TEXT + b"data: [DONE]")[0] == TEXT + b"data: [DONE]\n"
    assert run(TEXT + b"data: [DONE]")[1].done
    assert run(TEXT + b'data: {"cho')[1].fault == "not_json"


grains = st.sampled_from(
    [b"data: ", b"data:", b"\n", b"\r", b"\n\n", b"{", b"}", b'"usage":', b"[DONE]", b"null", b": c", b"\xff"]
)


@given(
    st.lists(grains | st.binary(max_size=4) | st.sampled_from([TEXT, USAGE, DONE]), max_size=20), cuts, st.booleans()
)
def test_garbage_never_raises_and_never_depends_on_its_cuts(parts: Any, at: Any, keep_usage: Any) -> None:
    stream = b"".join(parts)
    once, whole = run(stream, keep_usage=keep_usage)
    again, cut = run(stream, at, keep_usage=keep_usage)
    assert (once, reading(whole)) == (again, reading(cut))
    assert once == b"" or once.endswith((b"\n", b"\r"))


def shows_usage(stream: bytes) -> Iterator[bool]:
    for line in stream.splitlines():
        if line.startswith(b"data: {"):
            yield json.loads(line[6:]).get("usage") is not None


def test_recorded_streams() -> None:
    folder = os.environ.get("KEYFORGE_RECORDINGS")
    if not folder:
        pytest.skip("KEYFORGE_RECORDINGS is not set: no recorded provider traffic to read")
    from keyforge.edge.core.dialects.openai_chat.answer import read_chat, read_embeddings
    from keyforge.testkit.recordings import load

    streams = answers = 0
    for provider, recording in load(Path(folder)):
        if recording.is_stream:
            streams += 1
            out, meter = run(recording.body, (11, 502, 1003))
            assert meter.fault is None, recording.id
            if meter.error is None:
                assert out == recording.body, recording.id
                assert meter.done, recording.id
            wants = (recording.request.get("stream_options") or {}).get("include_usage")
            if meter.done and (wants or provider in ("openrouter", "groq")):
                assert meter.usage is not None, recording.id
                assert meter.deltas <= meter.output_bytes
            kept = run(recording.body, keep_usage=False)[0]
            assert b'"total_tokens"' not in kept or b'"x_groq":{"id"' in kept, recording.id
        elif recording.status == 200 and isinstance(recording.response, dict) and recording.response.get("usage"):
            answers += 1
            read = read_embeddings if recording.path.endswith("/embeddings") else read_chat
            answer = read(recording.body, Workload())
            assert answer is not None, recording.id
            assert answer.usage is not None, recording.id
            reported = recording.response["usage"]
            assert answer.usage.tokens >= reported["total_tokens"], recording.id
    assert streams > 30
    assert answers > 200
