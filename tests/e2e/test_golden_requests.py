"""The bytes that the edge sends to providers and to agents are those of the golden files, also for recorded traffic.

    KEYFORGE_WRITE_GOLDEN=1 ./taskw test -- tests/e2e/test_golden_requests.py     writes the files again: read the diff

`golden_requests/<case>.txt` holds a handwritten exchange in full; `golden_requests/recordings/<file>.txt` a line for
each recorded one, with digests of its bytes. Errors that the gateway words are kept by type and status. Recordings need
KEYFORGE_RECORDINGS. A run that passes keeps what it saw in pytest's cache, and a later one that fails shows the diff.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from keyforge.testkit.gateway import Gateway, gateway_of
from keyforge.testkit.nats_server import wait_until
from keyforge.testkit.recordings import FOLDER_VARIABLE, Recording, load
from keyforge.testkit.stack import Stack
from tests.e2e.golden_cases import CASES, EMBEDDER, KEYS, KINDS, MODEL, SECRET, Case
from tests.e2e.golden_text import HEX_DIGITS, Exchange, differences, digest, readable
from tests.e2e.golden_wire import JSON, Agent, Delivery, Provider, Reply

RECORDINGS: Final = os.environ.get(FOLDER_VARIABLE, "")
WRITE_VARIABLE: Final = "KEYFORGE_WRITE_GOLDEN"
WRITES: Final = bool(os.environ.get(WRITE_VARIABLE))
FOLDER: Final = Path(__file__).parent / "golden_requests"
FILES: Final = ("cerebras", "deepseek", "google", "groq", "huggingface", "mistral", "openai", "openrouter", "zai")
"""The files of recordings with exchanges in OpenAI's dialect."""
PRICE: Final = {"input_per_mtok": "1", "output_per_mtok": "2", "max_output_tokens": 100_000}
TURNED_DOWN: Final = frozenset((401, 402, 403, 407, 429))
"""A credential that gets one of these rests for a while, and the next request would not reach its provider."""
AGAIN: Final = f"If this is meant, {WRITE_VARIABLE}=1 writes the golden files again."
SHOWN_MAX: Final = 3
HEADING: Final = "# line of the recording, request, delivery | status, outcome | to the provider, to the agent\n"


class Neighbours:
    """The edge of a running stack between an agent and one provider, which is registered under many names."""

    def __init__(self, gateway: Gateway, provider: Provider) -> None:
        self._gateway = gateway
        self._provider = provider
        self._agent = Agent(gateway.stack.url("edge"))
        self._host = gateway.stack.url("edge").removeprefix("http://").encode()
        gateway.tenant("golden")
        self.keys = {name: gateway.key("golden", **policy).text for name, policy in KEYS.items()}
        self.keys["any"] = gateway.key("golden").text
        self.keys[""] = ""

    def close(self) -> None:
        """Hang up on the edge."""
        self._agent.close()

    def register(self, provider: str, kind: str, prefix: str, models: set[str]) -> None:
        """Register the provider once more: under this name and kind, with this path before its routes."""
        url = f"http://127.0.0.1:{self._provider.port}{prefix}"
        body = {"id": provider, "kind": kind, "base_url": url, "allow_insecure": True}
        self._gateway.operator("keys", "POST", "/v1/providers", body)
        self._gateway.operator("keys", "POST", f"/v1/providers/{provider}/credentials", {"secret": SECRET})
        for model in sorted(models):
            self._gateway.operator("keys", "PUT", f"/v1/prices/{provider}/{model}", PRICE)
        for model in sorted(models):
            self._wait_known(provider, model)

    def _wait_known(self, provider: str, model: str) -> None:
        body = {"model": f"{provider}/{model}", "messages": [{"role": "user", "content": "are you there?"}]}
        probe = Case("probe", json.dumps(body).encode(), Reply(b'{"choices":[{}],"usage":null}'), key="any")
        wait_until(lambda: self.exchange(probe).status == 200, f"{model} of {provider} at the edge")

    def exchange(self, case: Case) -> Exchange:
        """Carry a request through the edge."""
        key = self.keys[case.key]
        head = f"{case.method} {case.path} HTTP/1.1\r\nhost: {self._host.decode()}\r\n"
        head += f"authorization: Bearer {key}\r\n" if key else ""
        head += f"content-type: {JSON}\r\n" if case.body else ""
        body = case.body
        if case.chunked:
            head += "transfer-encoding: chunked\r\n"
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        elif body:
            head += f"content-length: {len(body)}\r\n"
        self._provider.answer_with(case.reply)
        answer = self._agent.ask(head.encode() + case.headers + b"\r\n" + body)
        return Exchange.of(self._provider.received(), answer)


@pytest.fixture(scope="module")
def neighbours(stack: Stack) -> Iterator[Neighbours]:
    with gateway_of(stack) as gateway, Provider() as provider:
        opened = Neighbours(gateway, provider)
        try:
            for name, kind in KINDS.items():
                opened.register(name, kind, "/v1", {MODEL, EMBEDDER})
            yield opened
        finally:
            opened.close()


def read(file: Path) -> str:
    """Return a golden file; nothing of one that was not written yet."""
    return file.read_text("utf-8") if file.is_file() else ""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_handwritten(neighbours: Neighbours, case: Case) -> None:
    now = readable(neighbours.exchange(case))
    file = FOLDER / f"{case.name}.txt"
    if WRITES:
        file.write_text(now, "utf-8")
    before = read(file)
    if now != before:
        pytest.fail(f"{AGAIN}\n{differences(case.name, before, now)}", pytrace=False)


# --- recordings -------------------------------------------------------------------------------------------------------


class Numbered(NamedTuple):
    """A recording, and what stands for it: its line in its file, and a digest of its request."""

    line: int
    recording: Recording

    def name(self, delivery: Delivery) -> str:
        request = json.dumps(self.recording.request, ensure_ascii=False, sort_keys=True).encode()
        return f"{self.line:04} {hashlib.sha256(request).hexdigest()[:HEX_DIGITS]} {delivery}"

    @property
    def prefix(self) -> str:
        """The path before its route."""
        return self.recording.path.removesuffix("/chat/completions").removesuffix("/embeddings")


@cache
def recorded() -> dict[str, list[Numbered]]:
    """Return the recordings in OpenAI's dialect by their file."""
    lines: dict[str, int] = {}
    found: dict[str, list[Numbered]] = {}
    for file, recording in load(Path(RECORDINGS), only_openai_shaped=False):
        lines[file] = lines.get(file, 0) + 1
        if recording.is_openai_shaped():
            found.setdefault(file, []).append(Numbered(lines[file], recording))
    return found


def register(neighbours: Neighbours, file: str, numbered: list[Numbered]) -> dict[int, str]:
    """Register a provider for each path that was recorded, and for each recording that lets a credential rest. Return
    the provider of each line."""
    models: dict[str, set[str]] = {}
    prefixes: dict[str, str] = {}
    chosen: dict[int, str] = {}
    for one in numbered:
        alone = one.recording.status in TURNED_DOWN
        paths = sorted({other.prefix for other in numbered})
        name = f"golden-{file}-{one.line}" if alone else f"golden-{file}-path{paths.index(one.prefix)}"
        chosen[one.line], prefixes[name] = name, one.prefix
        models.setdefault(name, set()).add(one.recording.model)
    for name, prefix in prefixes.items():
        neighbours.register(name, file, prefix, models[name])
    return chosen


def case_of(one: Numbered, provider: str, delivery: Delivery) -> Case:
    """Return the recorded request and answer, to be sent again."""
    recording = one.recording
    body: dict[str, Any] = {**recording.request, "model": f"{provider}/{recording.model}"}
    route = "/embeddings" if recording.path.endswith("/embeddings") else "/chat/completions"
    reply = Reply(recording.body, recording.status, recording.content_type or JSON, delivery)
    return Case(one.name(delivery), json.dumps(body, ensure_ascii=False).encode(), reply, f"/v1{route}", key="any")


@pytest.mark.skipif(not RECORDINGS, reason=f"{FOLDER_VARIABLE} names no folder of recordings")
@pytest.mark.parametrize("file", FILES)
def test_recorded(neighbours: Neighbours, file: str, pytestconfig: pytest.Config) -> None:
    assert tuple(sorted(recorded())) == FILES
    numbered = recorded()[file]
    chosen = register(neighbours, file, numbered)
    now: dict[str, str] = {}
    exchanges: dict[str, Exchange] = {}
    for one in numbered:
        for delivery in ("whole", "split") if one.recording.is_stream else ("whole",):
            exchange = neighbours.exchange(case_of(one, chosen[one.line], delivery))
            name = one.name(delivery)
            exchanges[name] = exchange
            bytes_of = f"{digest(exchange.sent)} {digest(exchange.received)}"
            now[name] = f"{exchange.status} {exchange.outcome} | {bytes_of}"
    golden = FOLDER / "recordings" / f"{file}.txt"
    if WRITES:
        golden.write_text(HEADING + "".join(f"{name} | {what}\n" for name, what in now.items()), "utf-8")
    seen = Seen(pytestconfig)
    lines = read(golden).removeprefix(HEADING).splitlines()
    before = {name: what for name, _, what in (line.partition(" | ") for line in lines)}
    if before != now:
        pytest.fail(report(file, before, now, exchanges, seen), pytrace=False)
    seen.keep(now, exchanges)


def test_every_golden_file_belongs_to_a_case() -> None:
    known = {FOLDER / f"{case.name}.txt" for case in CASES} | {FOLDER / "recordings" / f"{file}.txt" for file in FILES}
    assert set(FOLDER.rglob("*.*")) == known


class Seen:
    """The exchanges of runs that passed, in full: kept in pytest's cache, by digest, for a run that fails to show."""

    def __init__(self, config: pytest.Config) -> None:
        self._folder: Path = config.cache.mkdir("golden_requests")

    def keep(self, lines: dict[str, str], exchanges: dict[str, Exchange]) -> None:
        for name, line in lines.items():
            file = self._file(line)
            if not file.exists():
                file.write_text(readable(exchanges[name]), "utf-8")

    def find(self, line: str) -> str | None:
        return self._file(line).read_text("utf-8") if self._file(line).is_file() else None

    def _file(self, line: str) -> Path:
        return self._folder / line.rpartition(" | ")[2].replace(" ", "-")


def parts_of(before: str, now: str) -> str:
    """Return which parts of two golden lines differ."""
    names = ("status", "outcome", "bytes to the provider", "bytes to the agent")
    parts = zip(names, before.replace(" |", "").split(), now.replace(" |", "").split(), strict=True)
    return ", ".join(
        name if len(old) == HEX_DIGITS else f"{name} {old} -> {new}" for name, old, new in parts if old != new
    )


def report(file: str, before: dict[str, str], now: dict[str, str], exchanges: dict[str, Exchange], seen: Seen) -> str:
    """Return which exchanges differ, with a diff of the first few."""
    changed = [name for name in now if name in before and before[name] != now[name]]
    text = [f"{file}: {len(changed)} of {len(now)} exchanges differ. {AGAIN}"]
    text += [f"  {name}: {parts_of(before[name], now[name])}" for name in changed]
    text += [f"  {name}: not in the golden file" for name in now if name not in before]
    text += [f"  {name}: in the golden file, and no longer recorded" for name in before if name not in now]
    for name in changed[:SHOWN_MAX]:
        shown = readable(exchanges[name])
        golden = seen.find(before[name])
        text.append(
            differences(name, golden, shown) if golden else f"{name}, now (no golden bytes here):\n{shown[:2000]}"
        )
    return "\n".join(text)
