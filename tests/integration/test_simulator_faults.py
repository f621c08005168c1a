"""The simulator's faults by the name of a model, seen by plain clients of the real process."""

import gzip
import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import pytest

from keyforge.simulator.faults.fault import TEXT, USAGE
from keyforge.simulator.faults.table import FAULTS
from keyforge.testkit.simulator_process import Simulator

QUICK = {"silence": "-0.05", "stream-large": "-2000"}
"""Numbers for names of faults that take long otherwise."""
BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture(scope="module")
def running() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def simulator(running: Simulator) -> Simulator:
    running.reset()
    return running


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    """A client that uses each connection once: some faults end a connection under its second request."""
    with httpx.Client(headers={"connection": "close"}, timeout=60) as client:
        yield client


Ask = Callable[..., httpx.Response]


@pytest.fixture
def ask(simulator: Simulator, http: httpx.Client) -> Ask:
    """Send a request to the model of a fault."""

    def send(name: str, *, path: str = "/chat/completions", **fields: Any) -> httpx.Response:
        return http.post(simulator.url + path, json={"model": f"sim/sim-fault-{name}", **BODY, **fields})

    return send


def events(raw: bytes) -> list[str]:
    """What a reader by the standard (WHATWG, server-sent events) is given: the data of messages without a name."""
    text = raw.decode("utf-8").removeprefix("\ufeff")
    found: list[str] = []
    data: list[str] = []
    kind = ""
    for line in re.split(r"\r\n|\r|\n", text):
        field, _, value = line.partition(":")
        if not line:
            if data and not kind:
                found.append("\n".join(data))
            data, kind = [], ""
        elif field == "data":
            data.append(value.removeprefix(" "))
        elif field == "event":
            kind = value.removeprefix(" ")
    return found


def shown(raw: bytes) -> str:
    chunks = [json.loads(data) for data in events(raw) if data != "[DONE]"]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_sent_and_billed_as_the_table_says(ask: Ask, simulator: Simulator, name: str) -> None:
    fault = FAULTS[name]
    number = next((number for start, number in QUICK.items() if name.startswith(start)), "")
    for at, stream in enumerate((False, True)):
        answer = ask(name + number, stream=stream)
        assert answer.status_code == fault.status
        streams = fault.status == 200 and fault.form != "whole" and (stream or fault.form == "stream")
        assert answer.headers["content-type"].startswith("text/event-stream") == streams
        assert answer.headers.keys() >= fault.headers.keys()
        entry = simulator.books()["entries"][at]
        assert (entry["status"], entry["outcome"]) == (fault.status, "finished")
        assert (entry["prompt_tokens"], entry["completion_tokens"]) == fault.billed
        if fault.billed[1] and fault.status == 200 and not name.startswith(("later-", "finish-error", "choices-")):
            assert answer.content
    assert simulator.books()["prompt_tokens"] == 2 * fault.billed[0]


@pytest.mark.parametrize("name", [name for name in FAULTS if name.startswith("stream-") and name != "stream-for-json"])
def test_a_stream_by_the_standard_has_the_same_words(ask: Ask, name: str) -> None:
    answer = ask(name, stream=True)
    assert shown(answer.content).removesuffix(" more") == TEXT
    usages = [json.loads(data).get("usage") for data in events(answer.content) if data != "[DONE]"]
    assert [usage for usage in usages if usage] == [USAGE]
    assert ("[DONE]" in events(answer.content)) == (name not in ("stream-no-done", "stream-no-end"))
    assert answer.content.endswith(b"data: [DONE]") == (name == "stream-no-end")


def test_what_is_peculiar_to_streams_is_in_them(ask: Ask) -> None:
    def raw(name: str) -> bytes:
        return ask(name, stream=True).content

    assert raw("stream-bom").startswith(b"\xef\xbb\xbfdata:")
    assert b"\n" not in raw("stream-cr")
    assert raw("stream-crlf").count(b"\r\n") == raw("stream-crlf").count(b"\n")
    assert b"\nx-trace" in b"\n" + raw("stream-fields")
    assert b"event: ping\ndata: ping\n\n" in raw("stream-named")
    assert len(raw("stream-large")) > 1_500_000
    assert 2_000 < len(raw("stream-large-2000")) < 4_000
    assert b'"finish_reason":""' in raw("stream-finish-empty")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("200-openai", b'"code":"context_length_exceeded"'),
        ("200-openrouter-429", b'"code":429'),
        ("first-vllm", b'data: {"object":"error"'),
        ("first-venice", b'"choices":null'),
        ("first-anthropic-429", b'data: {"type":"error","error":{"type":"rate_limit_error"'),
        ("first-gemini", b'data: [{"error":'),
        ("first-text", b"data: upstream error: 400"),
        ("later-openai-429", b'"content":" you"'),
        ("line-openrouter", b'{"error": {"code": 400'),
        ("choices-null", b'"choices":null'),
        ("finish-error", b'"finish_reason":"error"'),
        ("error-falsy", b'"error":false'),
    ],
)
def test_an_error_in_a_200_has_its_providers_shape(ask: Ask, name: str, words: bytes) -> None:
    answer = ask(name, stream=True)
    assert answer.status_code == 200
    assert words in answer.content


def test_the_form_that_was_not_asked_for(ask: Ask) -> None:
    whole = ask("json-for-stream", stream=True)
    assert (whole.headers["content-type"], whole.json()["usage"]) == ("application/json", USAGE)
    assert shown(ask("stream-for-json").content) == TEXT
    assert ask("stream-bom").json()["choices"][0]["message"]["content"] == TEXT


def test_gzip_is_gzip(ask: Ask, simulator: Simulator, http: httpx.Client) -> None:
    for name, status, words in (("gzip", 200, TEXT), ("gzip-400", 400, "bad schema"), ("gzip-429", 429, "slow down")):
        answer = ask(name)
        assert (answer.status_code, answer.headers["content-encoding"]) == (status, "gzip")
        assert words in answer.text
        with http.stream("POST", f"{simulator.url}/chat/completions", json={"model": f"sim-fault-{name}"}) as same:
            assert words.encode() in gzip.decompress(b"".join(same.iter_raw()))
    assert shown(ask("gzip", stream=True).content) == TEXT


def test_a_wait_is_a_time_from_now_on(ask: Ask) -> None:
    assert ask("429-seconds-17").headers["retry-after"] == "17"
    until = parsedate_to_datetime(ask("429-date-60").headers["retry-after"])
    assert 50 <= until.timestamp() - time.time() <= 61
    epoch_ms = ask("429-reset-openrouter-60").json()["error"]["metadata"]["headers"]["X-RateLimit-Reset"]
    assert 50 <= int(epoch_ms) / 1000 - time.time() <= 61


@pytest.mark.parametrize("name", ["silence-head", "silence-first", "silence-events", "silence-end", "silence-503"])
def test_silence_lasts_as_long_as_the_name_says(ask: Ask, name: str) -> None:
    began = time.monotonic()
    answer = ask(f"{name}-0.5", stream=True)
    assert time.monotonic() - began >= 0.5
    assert answer.status_code == (503 if name == "silence-503" else 200)


def test_silence_is_where_the_name_says(simulator: Simulator, http: httpx.Client) -> None:
    body = {"model": "sim-fault-silence-events-0.5", **BODY, "stream": True}
    with http.stream("POST", f"{simulator.url}/chat/completions", json=body, timeout=60) as answer:
        pieces = answer.iter_bytes()
        assert b'"hey"' in next(pieces)
        began = time.monotonic()
        assert b'" you"' in next(pieces)
    assert time.monotonic() - began >= 0.4


def test_a_redirect_leads_elsewhere(ask: Ask, simulator: Simulator) -> None:
    for status in (301, 302, 303, 307, 308):
        answer = ask(f"redirect-{status}")
        assert (answer.status_code, answer.headers["location"]) == (status, "/v1/elsewhere")


def connected(simulator: Simulator) -> socket.socket:
    opened = socket.create_connection(("127.0.0.1", simulator.port))
    opened.settimeout(60)
    return opened


def exchange(opened: socket.socket, name: str) -> bytes:
    """Send a request and read until the answer is whole, or the connection ends."""
    body = json.dumps({"model": f"sim-fault-{name}", **BODY}).encode()
    opened.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
    got = b""
    while not got.endswith(b"}") and (piece := opened.recv(65536)):
        got += piece
    return got


def test_a_connection_ends_under_its_second_request(simulator: Simulator) -> None:
    with connected(simulator) as opened:
        assert b'"hey"' in exchange(opened, "next-close")
        assert exchange(opened, "next-close") == b""
    with connected(simulator) as opened:
        assert b'"hey"' in exchange(opened, "next-reset")
        with pytest.raises(ConnectionResetError):
            exchange(opened, "next-reset")
    assert simulator.books()["requests"] == 2  # what it did not read it does not book


def test_an_idle_connection_is_closed_when_it_said_so(simulator: Simulator) -> None:
    with connected(simulator) as opened:
        for _ in range(2):
            answer = exchange(opened, "keep-alive-0.3")
            assert b"keep-alive: timeout=0.3" in answer
        began = time.monotonic()
        assert opened.recv(1) == b""
        assert 0.2 <= time.monotonic() - began < 20


def test_a_fault_is_also_selected_by_rule_and_by_metadata(simulator: Simulator, http: httpx.Client) -> None:
    simulator.script({"fault": "429-seconds-17"}, credential="fixture-a", times=1)
    headers = {"authorization": "Bearer fixture-a"}
    url, body = f"{simulator.url}/chat/completions", {"model": "m", **BODY}
    answers = [http.post(url, json=body, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [429, 200]
    assert answers[0].headers["retry-after"] == "17"
    chosen = http.post(url, json={**body, "metadata": {"sim": {"fault": "first-gemini", "first_byte_delay_s": 0.3}}})
    assert isinstance(chosen.json(), list)
    assert chosen.elapsed.total_seconds() >= 0.3


def test_a_name_that_is_no_fault_is_refused_with_the_nearest(ask: Ask, simulator: Simulator) -> None:
    answer = ask("429-secnds")
    assert answer.status_code == 404
    assert "sim-fault-429-seconds" in answer.json()["error"]["message"]
    answer = ask("finish-error", path="/embeddings", input="a")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "model")
    assert simulator.books()["prompt_tokens"] == 0


def test_usage_of_embeddings_may_be_a_total_alone(ask: Ask, simulator: Simulator) -> None:
    answer = ask("usage-total-alone", path="/embeddings", input=["a", "b"])
    assert (len(answer.json()["data"]), answer.json()["usage"]) == (2, {"total_tokens": 34})
    (entry,) = simulator.books()["entries"]
    assert (entry["prompt_tokens"], entry["completion_tokens"]) == (34, 0)


def test_the_models_that_are_listed_do_as_they_are_asked(simulator: Simulator, http: httpx.Client) -> None:
    listed = [model["id"] for model in http.get(f"{simulator.url}/models").json()["data"]]
    assert listed[0] == "sim-small"
    assert "sim-401" not in listed
    assert not any("fault" in name for name in listed)
    for name in listed:
        for stream in (False, True):
            answer = http.post(
                f"{simulator.url}/chat/completions",
                json={"model": name, **BODY, "stream": stream, "max_tokens": 2},
                timeout=60,
            )
            assert answer.status_code == 200
            assert '"finish_reason":' in answer.text
            assert "error" not in answer.text
