"""A stream's usage: which of several counts, from where, and whose it is to see."""

import json
from typing import Any

import pytest

from keyforge.contracts.directory import PriceEntry
from keyforge.contracts.errors import Problem
from keyforge.contracts.ids import ModelName, PriceId
from keyforge.contracts.usage import Usage
from keyforge.edge.core.dialects.openai_chat.stream import StreamMeter
from keyforge.edge.core.judge import OutgoingRequest, outgoing_for
from keyforge.edge.core.routing.catalogue import Route
from tests.unit.edge_twins import CHAT, FREE, KEY, PROVIDER
from tests.unit.event_stream import DONE, USED, data, event, run

TEXT = event({"content": "hello"})
STOP = event({}, "stop")
TRUE = Usage(input_tokens=9, output_tokens=3)
ZEROS: list[Any] = [
    {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    {"prompt_tokens": 0, "prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens": None},
    {"input_tokens": "0", "output_tokens": 0.0},
    {},
    None,
]


@pytest.mark.parametrize("zeros", ZEROS, ids=repr)
def test_zeros_after_the_truth_do_not_replace_it(zeros: Any) -> None:
    cost = {**USED, "cost": 0.5}
    for stream in (
        TEXT + event({}, "stop", usage=cost) + event(usage=zeros) + DONE,
        TEXT + STOP + event(usage=cost) + DONE + event(usage=zeros),
        TEXT + event({}, "stop", usage=cost) + event({"content": ""}, usage=zeros) + DONE,
    ):
        meter = run(stream)[1]
        assert (meter.usage, meter.reported_cost_nusd) == (TRUE, 500_000_000)
    assert run(TEXT + STOP + event(usage=zeros) + DONE)[1].usage is None, "unknown is not zero"


def test_nonsense_after_the_truth_makes_it_unknown() -> None:
    assert run(TEXT + STOP + event(usage=USED) + event(usage={**USED, "prompt_tokens": -1}) + DONE)[1].usage is None


@pytest.mark.parametrize(
    "late",
    [
        event(usage=USED),
        event(usage=USED).replace(b"\n", b"\r\n"),
        b": x\n\nevent: usage\n" + event(usage=USED),
        b"data: ping\n\n" + event({}, "stop", usage=USED),
        event(usage=USED)[:-2],
        data({"x_groq": {"usage": USED}}),
        b'data: {"usage":\ndata: {"prompt_tokens": 9, "completion_tokens": 3}}\n\n',
    ],
)
def test_usage_after_the_end_counts_and_is_not_passed_on(late: bytes) -> None:
    for keep in (True, False):
        for cuts in ((), range(2_000)):
            out, meter = run(TEXT + STOP + DONE + late, cuts, keep_usage=keep)
            assert out == TEXT + STOP + DONE
            assert (meter.usage, meter.fault) == (TRUE, None)


def test_an_error_or_damage_after_the_end_changes_nothing() -> None:
    for late in (data({"error": {"message": "no"}}), b"data: {\n\n", b"<html>\n", b'{"error": "no"}\n', b"\xff\n\n"):
        out, meter = run(TEXT + STOP + event(usage=USED) + DONE + late)
        assert (out, meter.usage) == (TEXT + STOP + event(usage=USED) + DONE, TRUE)
        assert (meter.error, meter.failure, meter.fault) == (None, None, None)


@pytest.mark.parametrize(
    "last",
    [
        event({}, "stop", usage=USED),
        event({}, "stop", x_groq={"usage": USED}),  # Groq
        data({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": USED}]}),  # Moonshot
        STOP + event(usage=USED),  # OpenAI
        STOP + event(usage={**USED, "completion_tokens": 1}) + event(usage=USED),
        STOP + data({"usage": USED}),
        event({}, "stop", usageMetadata={"promptTokenCount": 9, "candidatesTokenCount": 3}),  # Gemini
        STOP + data({"choices": [], "amazon-bedrock-invocationMetrics": {"inputTokenCount": 9, "outputTokenCount": 3}}),
        STOP + event(usage={"prompt_tokens": 9.0, "completion_tokens": "3"}),
        STOP + event(usage={"input_tokens": 9, "output_tokens": 3}),
    ],
)
def test_usage_counts_from_wherever_it_stands(last: bytes) -> None:
    grows = [event({"content": "x"}, usage={**USED, "completion_tokens": count}) for count in (1, 2)]  # Perplexity, xAI
    assert run(b"".join(grows) + last + DONE)[1].usage == TRUE


def outgoing(kind: str, *, asked: bool = False, **more: Any) -> OutgoingRequest:
    body: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    body |= {"max_tokens": 9, **more} | ({"stream_options": {"include_usage": True}} if asked else {})
    parsed = CHAT.parse(json.dumps(body).encode())
    assert not isinstance(parsed, Problem)
    price = PriceEntry(price_id=PriceId("p"), prices=FREE, max_output_tokens=None, context_tokens=None)
    found = outgoing_for(CHAT, parsed, Route(PROVIDER, ModelName("m"), kind, price), KEY)
    assert isinstance(found, OutgoingRequest)
    return found


@pytest.mark.parametrize(
    ("kind", "asked", "shown"),
    [("openai", False, False), ("openai", True, True), ("mistral", False, True), ("mistral", True, True)],
)
def test_usage_is_hidden_only_where_we_asked_for_it(kind: str, asked: bool, shown: bool) -> None:
    priced = outgoing(kind, asked=asked)
    reader = priced.speaks.stream(priced.request, priced.workload, priced.worst.output_tokens, priced.sending.quirks)
    usage = event({}, "stop", usage=USED)
    out = reader.feed(TEXT + usage + event(usage=USED) + DONE)
    assert (out.count(b'"usage"'), out.count(b"stop")) == ((2, 1) if shown else (0, 1))
    assert reader.usage == TRUE


def test_a_stream_has_as_many_completions_as_were_asked_for() -> None:
    priced = outgoing("openai", n=2)
    reader = priced.speaks.stream(priced.request, priced.workload, priced.worst.output_tokens, priced.sending.quirks)
    reader.feed(event({}, "stop"))
    assert not reader.finished
    reader.feed(event({}, "stop").replace(b'"index": 0', b'"index": 1'))
    assert reader.finished


def test_what_groq_sends_unasked_is_not_cut_out_of_a_chunk() -> None:
    chunk = event({}, "stop", x_groq={"id": "req", "usage": USED}, usage=USED)
    for stream in (chunk, event({"content": "x"}, "stop", x_groq={"usage": USED})):
        out, meter = run(TEXT + stream + DONE, keep_usage=False)
        assert out == TEXT + stream + DONE
        assert meter.usage == TRUE
    asked = event({}, "stop", x_groq={"id": "req"}, usage=USED)
    assert b'"usage"' not in run(asked, keep_usage=False)[0]
    assert b'"x_groq"' in run(asked, keep_usage=False)[0]


def test_a_chunk_written_again_has_no_line_in_it() -> None:
    spread = (
        b'data: {"choices": [{"delta": {"content": "x"}}],\rdata: "n":\rdata: 1, "usage": {"prompt_tokens": 1}}\r\r'
    )
    out = run(spread, keep_usage=False)[0]
    assert out == b'data: {"choices":[{"delta": {"content": "x"}}],"n":1}\n\r'


def test_an_image_fits_into_an_event_whatever_was_reserved() -> None:
    priced = outgoing("openai")
    reader = priced.speaks.stream(priced.request, priced.workload, priced.worst.output_tokens, priced.sending.quirks)
    image = event({"images": [{"image_url": {"url": "data:image/png;base64," + "A" * 3_000_000}}]})
    out = b"".join(reader.feed(image[place : place + 65_536]) for place in range(0, len(image), 65_536))
    assert out == image
    assert (reader.malformed, reader.output_bytes, reader.begun) == (False, 1, True)
    assert StreamMeter(keep_usage=True).feed(image) is image
