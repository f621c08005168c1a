"""Streams as the standard allows them: what comes out has the events that went in, however it is cut."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyforge.edge.core.dialects.openai_chat.stream import StreamMeter
from tests.unit.event_stream import DONE, USED, data, event, reading, run, standard

TEXT = event({"content": "héllo"})
LINES = json.dumps({"choices": [{"index": 0, "delta": {"content": "x"}}]}, indent=1).encode().splitlines()
cuts = st.lists(st.integers(0, 10_000), max_size=30)

LEGAL = {
    "bom": b"\xef\xbb\xbf" + TEXT,
    "unknown field": b"x-trace: 12\n" + TEXT,
    "unknown field without a value": b"trace\n" + TEXT,
    "unknown field in an event": b"id: 7\nx-trace: 12\nevent: message\n" + TEXT,
    "bom later on": TEXT + b"\xef\xbb\xbf" + TEXT + TEXT,
    "ping": b"event: ping\ndata: ping\n\n" + TEXT,
    "ping of two lines": b"event: ping\ndata: {\ndata: ping\n\n" + TEXT,
    "named": TEXT + b'event: x.tool\ndata: {"tool":"w"}\n\n',
    "named, a list": b"event: x.steps\ndata: [1, 2]\n\n" + TEXT,
    "named, other choices": b'event: x.poll\ndata: {"choices": "a or b"}\n\n' + TEXT,
    "named, no data": b"event: x.start\n\n" + TEXT,
    "named, a chunk": b"event: completion\n" + TEXT,
    "named after its data": b"data: ping\nevent: ping\n\n" + TEXT,
    "named error that is none": b"event: error\ndata: null\n\n" + TEXT,
    "empty data": b"data\n\ndata:\n\n" + TEXT,
    "empty data in front": b"data\n" + TEXT,
    "several lines": b"".join(b"data: " + line + b"\n" for line in LINES) + b"\n",
    "id after data": TEXT[:-1] + b"id: 3\nretry: 10\n\n" + TEXT,
    "comment": b": OPENROUTER PROCESSING\n\n: x\n" + TEXT[:-1] + b": y\n\n",
    "comment in an event": b"id: 1\n:\n" + TEXT,
    "retry": b"retry: 3000\n\n" + TEXT,
    "no space": TEXT.replace(b"data: ", b"data:"),
    "only crs": b"event: ping\ndata: ping\n\n:c\n" + TEXT,
}


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["lf", "crlf", "cr"])
@pytest.mark.parametrize("stream", LEGAL.values(), ids=LEGAL)
def test_a_legal_stream_is_read_by_every_client_as_it_was_sent(stream: bytes, end: bytes) -> None:
    whole = (stream + event({}, "stop") + event(usage=USED) + DONE).replace(b"\n", end)
    expected = run(whole)
    assert standard(expected[0]) == standard(whole)
    assert (expected[1].fault, expected[1].error, expected[1].done) == (None, None, True)
    assert expected[1].usage is not None
    one_by_one = run(whole, range(len(whole)))
    assert (one_by_one[0], reading(one_by_one[1])) == (expected[0], reading(expected[1]))


def test_only_what_clients_ignore_is_left_out() -> None:
    for name, stream in LEGAL.items():
        out = run(stream)[0]
        if "field" not in name and "bom" not in name:
            assert out == stream, name
    assert run(LEGAL["bom"])[0] == TEXT
    assert run(LEGAL["unknown field in an event"])[0] == b"id: 7\nevent: message\n" + TEXT


def test_a_line_that_ends_with_cr_is_passed_on_before_the_next_byte_comes() -> None:
    meter = StreamMeter(keep_usage=True)
    stream = TEXT.replace(b"\n", b"\r")
    assert meter.feed(stream) == stream
    assert meter.feed(b"\n") == b"\n", "it belongs to the line before"
    assert meter.feed(b"\n" + TEXT) == b"\n" + TEXT
    assert (meter.output_bytes, meter.fault) == (12, None)


def test_the_end_of_a_line_that_is_left_out_is_left_out_as_well() -> None:
    meter = StreamMeter(keep_usage=False)
    usage = event(usage=USED).replace(b"\n", b"\r\n")
    fed = [meter.feed(part) for part in (TEXT + usage[:-3], b"\n\r", b"\n" + b"x: y\r", b"\n" + TEXT)]
    assert b"".join(fed) == TEXT + TEXT
    held = StreamMeter(keep_usage=True)
    assert held.feed(b"id: 3\r") + held.feed(b"\ndata: {}\r\n\r\n") == b"id: 3\r\ndata: {}\r\n\r\n"


def test_fields_after_data_that_is_left_out_do_not_name_the_next_event() -> None:
    out, _ = run(event(usage=USED)[:-1] + b"event: x\n\n" + TEXT, keep_usage=False)
    assert out == TEXT


@pytest.mark.parametrize("name", [b"completion.chunk", b"error_rate", b"add"])
def test_a_chunk_in_a_named_event_is_metered(name: bytes) -> None:
    out, meter = run(b"event: " + name + b"\n" + event({"content": "abc"}, "stop", usage=USED) + DONE, keep_usage=False)
    assert (meter.output_bytes, meter.finished) == (3, True)
    assert meter.usage is not None
    assert b"usage" not in out


grains = st.sampled_from(
    [*LEGAL.values(), TEXT, event({"content": ""}), event({}, ""), b": c\n", b"id: 1\n", b"x: y\n", b"\n", b"event:\n"]
)


@given(st.lists(grains, max_size=8), st.sampled_from([b"\n", b"\r\n", b"\r"]), cuts)
def test_events_out_are_events_in(parts: list[bytes], end: bytes, at: list[int]) -> None:
    stream = b"".join(parts).replace(b"\n", end)
    out, meter = run(stream, at)
    if meter.fault is None:
        assert standard(out) == standard(stream)
    once = run(stream)
    assert (out, reading(meter)) == (once[0], reading(once[1]))


atoms = st.sampled_from(
    [b"data", b":", b" ", b"\n", b"\r", b"\r\n", b"event", b"error", b"{", b"}", b'"error":', b'"usage":', b"[DONE]",
     b"null", b"\xef\xbb\xbf", b'{"error":{"code":429}}', b'{"object":"error"}', b"1", b'""', TEXT, DONE,
     event(usage=USED), data({"choices": None, "error_message": "no"})]
)  # fmt: skip


@given(st.lists(atoms | st.binary(max_size=3), max_size=25), cuts, st.booleans())
def test_whatever_comes_what_went_out_is_a_beginning_of_it(parts: list[bytes], at: list[int], keep: bool) -> None:
    stream = b"".join(parts)
    out, meter = run(stream, at, keep_usage=keep)
    once = run(stream, keep_usage=keep)
    assert (out, reading(meter)) == (once[0], reading(once[1]))
    shown = standard(out + meter.close_event() + (b"\n\n" if out else b""))
    sent = standard(stream + b"\n\n\n")
    if keep:
        assert shown == sent[: len(shown)]
    else:
        assert len(shown) <= len(sent)


def test_recorded_streams_in_other_forms() -> None:
    folder = os.environ.get("KEYFORGE_RECORDINGS")
    if not folder:
        pytest.skip("KEYFORGE_RECORDINGS is not set: no recorded provider traffic to read")
    from keyforge.testkit.recordings import load

    streams = 0
    for _, recording in load(Path(folder)):
        if not recording.is_stream or b"chat.completion.chunk" not in recording.body:
            continue
        streams += 1
        expected = run(recording.body)[1]
        for end in (b"\r\n", b"\r"):
            form = b"\xef\xbb\xbf" + recording.body.replace(b"\n", end)
            out, meter = run(form, range(7, len(form), 211))
            assert reading(meter) == reading(expected), recording.id
            if meter.error is None:
                assert standard(out) == standard(form), recording.id
    assert streams > 30
