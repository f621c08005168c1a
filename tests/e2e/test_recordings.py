"""Recorded provider traffic, replayed as the upstream: an answer arrives as it was given. What is refused has a table.

KEYFORGE_RECORDINGS names the folder; a checkout without it skips this, and says so.
"""

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from keyforge.testkit.gateway import Gateway
from keyforge.testkit.recordings import FOLDER_VARIABLE, Recording, Replay, load
from tests.e2e.recorded_refusals import REFUSED, Refusal, expected, refusal_of

FOLDER = os.environ.get(FOLDER_VARIABLE, "")
PROVIDERS = ("openai", "groq", "mistral", "openrouter", "deepseek", "cerebras", "google", "huggingface", "zai")
PRICE = {
    "input_per_mtok": "1",
    "cache_write_per_mtok": "1.25",
    "cache_write_1h_per_mtok": "2",
    "output_per_mtok": "2",
    "max_output_tokens": 100_000,
}
GONE = object()

pytestmark = pytest.mark.skipif(not FOLDER, reason=f"{FOLDER_VARIABLE} names no folder of recordings")


def test_nothing_recorded_is_left_out() -> None:
    assert {name for name, _ in load(Path(FOLDER))} == set(PROVIDERS)
    assert {row.provider for row in REFUSED} <= set(PROVIDERS)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_replayed(gateway: Gateway, new_tenant: Callable[[Gateway], str], provider: str) -> None:
    recordings = [one for name, one in load(Path(FOLDER)) if name == provider]
    assert recordings
    recordings.sort(key=lambda one: one.status == 429)  # after it the credential rests for that model
    key = gateway.key(new_tenant(gateway))
    refused: Counter[Refusal] = Counter()
    edge = httpx.Client(base_url=gateway.stack.url("edge"), headers=key.headers, timeout=30)
    with Replay(recordings) as upstream, edge:
        url = f"{upstream.url}"
        body = {"id": f"rec-{provider}", "kind": "openai", "base_url": url, "allow_insecure": True}
        gateway.operator("keys", "POST", "/v1/providers", body)
        secret = {"secret": f"fixture-{provider}"}
        gateway.operator("keys", "POST", f"/v1/providers/rec-{provider}/credentials", secret)
        for model in sorted({one.model for one in recordings}):
            gateway.operator("keys", "PUT", f"/v1/prices/rec-{provider}/{model}", PRICE)
        for one in recordings:
            answer = send(edge, f"rec-{provider}", one)
            if (refusal := refusal_of(provider, answer)) is None:
                check(one, answer)
            else:
                refused[refusal] += 1
    assert refused == expected(provider), "tests/e2e/recorded_refusals.py has what may be refused, and how often"
    gateway.wait_settled(key)


def send(edge: httpx.Client, provider: str, one: Recording) -> httpx.Response:
    """Send a recorded request through the gateway."""
    route = "/embeddings" if one.path.endswith("/embeddings") else "/chat/completions"
    return edge.post(f"/v1{route}", json={**one.request, "model": f"{provider}/{one.model}"})


def check(one: Recording, answer: httpx.Response) -> None:
    """Compare what came back with what was recorded."""
    assert answer.status_code == one.status, (one.id, answer.text[:500])
    if one.is_stream:
        assert events(answer.text) == without_gone(events(one.body.decode(), keep_usage=wants_usage(one))), one.id
    elif one.status == 200:
        assert answer.json() == json.loads(one.body), one.id


def wants_usage(one: Recording) -> bool:
    return bool((one.request.get("stream_options") or {}).get("include_usage"))


def events(text: str, *, keep_usage: bool = True) -> list[object]:
    """Return the data of an SSE stream, parsed; without usage, and chunks that hold nothing else, if not asked for.
    That which Groq sends unasked, in `x_groq` as well, is left as it is."""
    found: list[object] = []
    for line in text.splitlines():
        data = line.removeprefix("data:").strip()
        if data == line.strip():
            continue
        if data == "[DONE]":
            found.append(data)
            continue
        chunk = json.loads(data)
        if keep_usage or "usage" not in chunk or "usage" in (chunk.get("x_groq") or ()):
            found.append(chunk)
        elif chunk.get("choices"):
            found.append({**chunk, "usage": GONE} if chunk["usage"] else chunk)
    return found


def without_gone(found: list[object]) -> list[object]:
    """Drop what `events` marked as kept from the client."""
    return [
        {name: value for name, value in one.items() if value is not GONE} if isinstance(one, dict) else one
        for one in found
    ]
