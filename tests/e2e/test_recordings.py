"""Recorded provider traffic, replayed as the upstream: an answer arrives as it was given, settled by its usage.

KEYFORGE_RECORDINGS names the folder; a checkout without it skips this, and says so.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from keyforge.testkit.gateway import Gateway
from keyforge.testkit.recordings import FOLDER_VARIABLE, Recording, Replay, load

FOLDER = os.environ.get(FOLDER_VARIABLE, "")
PROVIDERS = ("openai", "groq", "mistral", "openrouter", "deepseek", "cerebras", "huggingface", "zai")
PER_PROVIDER_MAX = 40
GONE = object()

pytestmark = pytest.mark.skipif(not FOLDER, reason=f"{FOLDER_VARIABLE} names no folder of recordings")


def playable(provider: str) -> list[Recording]:
    """Return the recordings of a provider that a client could have sent through us, one per request."""
    found = [one for name, one in load(Path(FOLDER)) if name == provider and one.status < 500 and one.status != 429]
    return found[:PER_PROVIDER_MAX]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_replayed(gateway: Gateway, new_tenant: Callable[[Gateway], str], provider: str) -> None:
    recordings = playable(provider)
    assert recordings
    key = gateway.key(new_tenant(gateway))
    with Replay(recordings) as upstream:
        url = f"{upstream.url}"
        body = {"id": f"rec-{provider}", "kind": "openai", "base_url": url, "allow_insecure": True}
        gateway.operator("keys", "POST", "/v1/providers", body)
        secret = {"secret": f"fixture-{provider}"}
        gateway.operator("keys", "POST", f"/v1/providers/rec-{provider}/credentials", secret)
        for model in sorted({one.model for one in recordings}):
            price = {"input_per_mtok": "1", "output_per_mtok": "2", "max_output_tokens": 100_000}
            gateway.operator("keys", "PUT", f"/v1/prices/rec-{provider}/{model}", price)
        for one in recordings:
            check(gateway, key.headers, f"rec-{provider}", one)
    gateway.wait_settled(key)


def check(gateway: Gateway, headers: dict[str, str], provider: str, one: Recording) -> None:
    """Send a recorded request through the gateway, and compare what comes back with what was recorded."""
    import httpx

    route = "/embeddings" if one.path.endswith("/embeddings") else "/chat/completions"
    body = {**one.request, "model": f"{provider}/{one.model}"}
    answer = httpx.post(f"{gateway.stack.url('edge')}/v1{route}", json=body, headers=headers, timeout=30)
    if answer.status_code == 400 and answer.json()["error"]["type"] in {"field_unsupported", "unbounded_content"}:
        return  # refused on purpose, before any money moved; test_edge_* say which and why
    assert answer.status_code == one.status, (one.id, answer.text[:500])
    if one.is_stream:
        assert events(answer.text) == without_gone(events(one.body.decode(), keep_usage=wants_usage(one))), one.id
    elif one.status == 200:
        assert answer.json() == json.loads(one.body), one.id


def wants_usage(one: Recording) -> bool:
    return bool((one.request.get("stream_options") or {}).get("include_usage"))


def events(text: str, *, keep_usage: bool = True) -> list[object]:
    """Return the data of an SSE stream, parsed; without usage, and chunks that hold nothing else, if not asked for."""
    found: list[object] = []
    for line in text.splitlines():
        data = line.removeprefix("data:").strip()
        if data == line.strip():
            continue
        if data == "[DONE]":
            found.append(data)
            continue
        chunk = json.loads(data)
        if keep_usage or "usage" not in chunk:
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
