"""The provider simulator: OpenAI's shapes for the official client, faults as scripted, books that add up."""

import asyncio
import base64
import json
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from keyforge.edge.application.provider_call import HeaderBlock, TimeLimits, UpstreamRequest
from keyforge.edge.application.provider_errors import UpstreamError
from keyforge.edge.core.dialects.openai_chat.answer import read_chat
from keyforge.edge.core.dialects.openai_chat.stream import StreamMeter
from keyforge.edge.core.pricing.workload import Workload
from keyforge.edge.core.routing.origin import parse_base_url
from keyforge.edge.outbound.provider_http.client import HttpUpstream
from keyforge.testkit.recordings import FOLDER_VARIABLE, Replay, load
from keyforge.testkit.simulator_process import Simulator


@pytest.fixture(scope="module")
def running() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def simulator(running: Simulator) -> Simulator:
    running.reset()
    return running


@pytest.fixture
def client(simulator: Simulator) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=simulator.url, api_key="fixture-credential", max_retries=0) as client:
        yield client


HELLO: Any = [{"role": "user", "content": "hello"}]


def test_a_completion_is_billed_as_it_says(simulator: Simulator, client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="m", messages=HELLO, max_tokens=5, n=2)
    assert answer.usage is not None
    assert len(answer.choices) == 2
    (entry,) = simulator.books()["entries"]
    assert (entry["prompt_tokens"], entry["completion_tokens"]) == (
        answer.usage.prompt_tokens,
        answer.usage.completion_tokens,
    )
    assert (entry["model"], entry["status"], entry["outcome"], entry["max_tokens"]) == ("m", 200, "finished", 5)
    assert "fixture" not in json.dumps(entry)


def test_a_stream_says_its_usage_when_asked(simulator: Simulator, client: openai.OpenAI) -> None:
    for wanted in (True, False):
        options: Any = {"include_usage": wanted}
        with client.chat.completions.create(model="m", messages=HELLO, stream=True, stream_options=options) as stream:
            chunks = list(stream)
        assert (chunks[-1].usage is not None) == wanted
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert len(text.split()) == simulator.books()["entries"][-1]["completion_tokens"] == 16


def test_embeddings_and_models(simulator: Simulator, client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model="e", input=["a", "b"], encoding_format="float")
    assert len(answer.data) == 2
    assert simulator.books()["prompt_tokens"] == answer.usage.prompt_tokens > 0
    assert "sim-small" in [model.id for model in client.models.list()]


def test_embeddings_are_encoded_as_asked(simulator: Simulator) -> None:
    def vectors(**asked: Any) -> list[Any]:
        answer = httpx.post(f"{simulator.url}/embeddings", json={"model": "e", "input": ["a", "b"], **asked}).json()
        return [one["embedding"] for one in answer["data"]]

    floats = vectors()
    assert vectors(encoding_format="float") == floats
    encoded = vectors(encoding_format="base64")
    assert [list(struct.unpack(f"<{len(floats[0])}f", base64.b64decode(one))) for one in encoded] == floats


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"max_tokens": 5},
        {"reasoning_effort": "low"},
        {"response_format": {"type": "json_object"}},
        {"tools": [{"type": "function", "function": {"name": name}} for name in ("f", "g")]},
    ],
)
def test_a_stream_has_as_many_completions_as_a_whole_answer(
    simulator: Simulator, client: openai.OpenAI, asked: Any
) -> None:
    whole = client.chat.completions.create(model="m", messages=HELLO, n=3, **asked)
    with client.chat.completions.stream(
        model="m", messages=HELLO, n=3, stream_options={"include_usage": True}, **asked
    ) as stream:
        made = stream.get_final_completion()

    def shown(answer: Any) -> list[Any]:
        return [
            (
                choice.index,
                choice.finish_reason,
                choice.message.content or None,
                [call.function.model_dump(include={"name", "arguments"}) for call in choice.message.tool_calls or ()],
            )
            for choice in answer.choices
        ]

    assert shown(made) == shown(whole)
    assert len(made.choices) == 3
    first, second = simulator.books()["entries"]
    assert first["completion_tokens"] == second["completion_tokens"] > 0
    assert made.usage is not None
    assert made.usage.completion_tokens == second["completion_tokens"]


def test_the_worst_case_can_be_billed(simulator: Simulator, client: openai.OpenAI) -> None:
    simulator.script({"bill": "worst"}, model="m")
    answer = client.chat.completions.create(model="m", messages=HELLO, max_tokens=100, n=3)
    (entry,) = simulator.books()["entries"]
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 300
    assert answer.usage.prompt_tokens == entry["body_bytes"] + 64 + 16


def test_rules_match_and_run_out(simulator: Simulator) -> None:
    simulator.script({"status": 429, "retry_after": "7"}, credential="fixture-a", times=2)
    simulator.script({"prompt_tokens": 11, "completion_tokens": 7}, model="counted")

    def post(credential: str, model: str) -> httpx.Response:
        headers = {"authorization": f"Bearer {credential}"}
        return httpx.post(
            f"{simulator.url}/chat/completions", json={"model": model, "messages": HELLO}, headers=headers
        )

    assert [post("fixture-a", "m").status_code for _ in range(3)] == [429, 429, 200]
    assert post("fixture-b", "m").status_code == 200
    assert post("fixture-b", "counted").json()["usage"]["total_tokens"] == 18
    simulator.reset()
    assert simulator.books()["requests"] == 0
    assert post("fixture-b", "counted").json()["usage"]["total_tokens"] != 18


@pytest.mark.parametrize("query", ["after=x", "after=", "limit=-1", "after=1.5", "limit=" + "9" * 30, "after=%C2%B2"])
def test_a_page_of_the_books_that_is_none_is_refused(simulator: Simulator, query: str) -> None:
    page = httpx.get(f"{simulator.url.removesuffix('/v1')}/_sim/books?{query}")
    if query == "after=":  # as where it is not given
        assert page.status_code == 200
        return
    assert page.status_code == 400
    assert "`after` and `limit` must be whole numbers" in page.json()["error"]["message"]


def test_rules_with_a_fault_that_is_none_are_refused_together(simulator: Simulator) -> None:
    rules = [{"behaviour": {"status": 500}}, {"behaviour": {"fault": "429-second"}}]
    script = f"{simulator.url.removesuffix('/v1')}/_sim/script"
    refused = httpx.post(script, json={"rules": rules})
    assert refused.status_code == 400
    assert "Did you mean sim-fault-429-seconds?" in refused.json()["error"]["message"]
    asked = {"model": "m", "messages": HELLO}
    assert httpx.post(f"{simulator.url}/chat/completions", json=asked).status_code == 200


def test_a_request_may_choose_for_itself(simulator: Simulator) -> None:
    for sim in ({"completion_tokens": 3}, '{"completion_tokens": 3}'):
        body = {"model": "m", "messages": HELLO, "metadata": {"sim": sim}}
        answer = httpx.post(f"{simulator.url}/chat/completions", json=body)
        assert answer.json()["usage"]["completion_tokens"] == 3
    body = {"model": "m", "messages": HELLO, "metadata": {"sim": {"no such knob": 1}}}
    assert httpx.post(f"{simulator.url}/chat/completions", json=body).status_code == 400
    with pytest.raises(ValueError, match="no such knob"):
        simulator.script({"no such knob": 1})


FAULTS = [
    ("sim-cut", False, "upstream_cut", "cut"),
    ("sim-cut-body", False, "upstream_cut", "cut"),
    ("sim-redirect", False, "upstream_redirect", "finished"),
    ("sim-huge-header", False, "upstream_header_too_large", "finished"),
    ("sim-hang", False, "upstream_timeout", "gone"),
    ("sim-not-json", False, None, "finished"),
    ("sim-no-usage", False, None, "finished"),
    ("sim-cut-stream", True, "upstream_cut", "cut"),
    ("sim-hang-stream", True, "upstream_timeout", "gone"),
    ("sim-malformed", True, "not_json", "finished"),
    ("sim-error-stream", True, "error", "finished"),
    ("sim-no-usage", True, None, "finished"),
    ("sim-no-done", True, "not done", "finished"),
]


@pytest.mark.parametrize(("model", "stream", "outcome", "booked"), FAULTS)
async def test_every_fault_is_named_by_client_or_meter(
    simulator: Simulator, model: str, stream: bool, outcome: str | None, booked: str
) -> None:
    upstream = HttpUpstream(time.monotonic)
    address = parse_base_url(simulator.url, allow_insecure=True)
    body = json.dumps({"model": f"x/{model}", "messages": HELLO, "stream": stream}).encode()
    limits = TimeLimits(first_byte_s=0.3, idle_s=0.3)
    target = f"{address.prefix}/chat/completions"
    request = UpstreamRequest(address.origin, target, HeaderBlock(), body, time.monotonic() + 60, limits=limits)
    meter = StreamMeter(keep_usage=True)
    seen: str | None = None
    try:
        response = await upstream.send(request)
        if stream:
            async for piece in response:
                meter.feed(piece)
            seen = meter.fault or ("error" if meter.error else None if meter.done else "not done")
            assert meter.usage is None
            assert meter.deltas > 0
        else:
            answer = read_chat(await response.read(), Workload())
            assert answer is None or answer.usage is None
    except UpstreamError as error:
        seen = error.type if error.sent else "not sent"
    assert seen == outcome
    async with asyncio.timeout(60):
        while simulator.books()["entries"][0]["outcome"] != booked:  # noqa: ASYNC110  # another process books it
            await asyncio.sleep(0.02)
    entry = simulator.books()["entries"][0]
    if stream and meter.fault is None:
        assert meter.output_bytes >= entry["completion_tokens"] >= meter.deltas
    await upstream.close()


async def test_many_streams_at_once(simulator: Simulator) -> None:
    upstream = HttpUpstream(time.monotonic)
    address = parse_base_url(simulator.url, allow_insecure=True)
    simulator.script({"chunk_delay_s": 0.05, "chunks": 4})
    body = json.dumps(
        {"model": "m", "messages": HELLO, "stream": True, "stream_options": {"include_usage": True}}
    ).encode()

    async def one() -> int:
        request = UpstreamRequest(
            address.origin, f"{address.prefix}/chat/completions", HeaderBlock(), body, time.monotonic() + 20
        )
        meter = StreamMeter(keep_usage=False)
        async for piece in await upstream.send(request):
            meter.feed(piece)
        assert meter.done
        assert meter.usage is not None
        return meter.usage.tokens

    total = sum(await asyncio.gather(*(one() for _ in range(200))))
    books = simulator.books()
    assert books["prompt_tokens"] + books["completion_tokens"] == total
    assert [entry["outcome"] for entry in books["entries"]] == ["finished"] * 200
    await upstream.close()


def test_recordings_are_replayed() -> None:
    folder = os.environ.get(FOLDER_VARIABLE)
    if not folder:
        pytest.skip(f"{FOLDER_VARIABLE} is not set: no recorded provider traffic to replay")
    recordings = [recording for _, recording in load(Path(folder))]
    with Replay(recordings) as replay, httpx.Client() as client:
        for recording in recordings:
            route = "/embeddings" if recording.path.endswith("/embeddings") else "/chat/completions"
            answer = client.post(replay.url + route, json=recording.request)
            assert (answer.status_code, answer.content) == (recording.status, recording.body), recording.id
        assert client.post(f"{replay.url}/embeddings", json={"model": "never recorded"}).status_code == 404
