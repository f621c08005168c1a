"""Recorded provider traffic through the whole stack: what is settled is what the provider counted, to the nano-dollar.

KEYFORGE_RECORDINGS names the folder; a checkout without it skips this, and says so.
"""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
import msgspec
import pytest

from keyforge.testkit.gateway import Gateway
from keyforge.testkit.recordings import FOLDER_VARIABLE, Recording, Replay, load
from tests.e2e.recorded_refusals import Refusal, expected, refusal_of
from tests.unit.recorded_usage import billed, documents

FOLDER = os.environ.get(FOLDER_VARIABLE, "")
PROVIDERS = ("openai", "groq", "mistral", "openrouter", "deepseek", "cerebras", "google", "huggingface", "zai")
PRICE = {
    "input_per_mtok": "1",
    "cache_read_per_mtok": "0.1",
    "cache_write_per_mtok": "1.25",
    "cache_write_1h_per_mtok": "2",
    "output_per_mtok": "5",
    "max_output_tokens": 100_000,
}

pytestmark = pytest.mark.skipif(not FOLDER, reason=f"{FOLDER_VARIABLE} names no folder of recordings")


@pytest.mark.parametrize("provider", PROVIDERS)
def test_what_is_settled_is_what_was_billed(
    gateway: Gateway, new_tenant: Callable[[Gateway], str], provider: str
) -> None:
    recordings = [one for name, one in load(Path(FOLDER)) if name == provider and one.status == 200 and bill_of(one)]
    key, name = gateway.key(new_tenant(gateway), [{"unit": "usd", "window": "total", "cap": "1000"}]), f"set-{provider}"
    edge = httpx.Client(base_url=gateway.stack.url("edge"), headers=key.headers, timeout=30)
    with Replay(recordings) as upstream, edge:
        body = {"id": name, "kind": "openai", "base_url": upstream.url, "allow_insecure": True}
        gateway.operator("keys", "POST", "/v1/providers", body)
        gateway.operator("keys", "POST", f"/v1/providers/{name}/credentials", {"secret": f"fixture-{provider}"})
        for model in sorted({one.model for one in recordings}):
            gateway.operator("keys", "PUT", f"/v1/prices/{name}/{model}", PRICE)
        found = [owed_for(edge, name, one) for one in recordings]
    refused = Counter(one for one in found if isinstance(one, Refusal))
    assert refused <= expected(provider), "what else is refused"
    owed = [one for one in found if not isinstance(one, Refusal)]
    assert owed
    gateway.wait_settled(key)
    gateway.wait_audited(key, sum(owed))


def owed_for(edge: httpx.Client, provider: str, one: Recording) -> int | Refusal:
    """Send a recorded request; return what the answer's own usage comes to, or why it was refused by us."""
    route = "/embeddings" if one.path.endswith("/embeddings") else "/chat/completions"
    body = {**one.request, "model": f"{provider}/{one.model}"}
    if body.get("stream"):
        body["stream_options"] = {"include_usage": True}
    answer = edge.post(f"/v1{route}", json=body)
    if (refusal := refusal_of(provider.removeprefix("set-"), answer)) is not None:
        return refusal
    assert answer.status_code == 200, answer.text[:500]
    owed = bill_of(msgspec.structs.replace(one, response=answer.text if one.is_stream else answer.json()))
    assert owed is not None, (one.id, answer.text[-500:])
    return owed


def bill_of(one: Recording) -> int | None:
    """Return what an answer's own usage comes to; None: it has none, such as a stream that ended with an error."""
    owed = None
    for document in documents(one.response):
        for fields in (document.get("usage"), (document.get("x_groq") or {}).get("usage")):
            owed = (billed(fields) if fields else None) or owed
    return owed
