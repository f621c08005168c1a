"""Names of models in the operators' API: whatever a provider calls its models, and nothing that is no name."""

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import quote

import pytest
import pytest_asyncio

from keyforge.contracts import subjects
from keyforge.contracts.directory import KeyEntry, PriceBook
from keyforge.testkit.nats_server import NatsNode
from tests.integration.keys_stack import Home, Keys
from tests.integration.model_names import NAMES, WRONG

pytestmark = pytest.mark.asyncio(loop_scope="module")

PRICE = {"input_per_mtok": "1", "output_per_mtok": "2"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def keys(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Keys]:
    node = NatsNode(tmp_path_factory.mktemp("keys"))
    try:
        await asyncio.to_thread(node.start)
        async with Home(node).keys() as running:
            await running.ok("POST", "/v1/providers", {"id": "p", "kind": "x", "base_url": "https://example.com/v1"})
            await running.ok("POST", "/v1/tenants", {"id": "acme", "name": "Acme"})
            yield running
    finally:
        await asyncio.to_thread(node.stop)


@pytest.mark.parametrize("name", NAMES)
async def test_a_model_can_have_a_price_and_be_allowed(keys: Keys, name: str) -> None:
    for path in (quote(name, safe="/"), quote(name, safe="")):
        made = await keys.ok("PUT", f"/v1/prices/p/{path}", PRICE)
        assert (made["model"], made["price_id"]) == (name, f"p/{name}@1")
        assert await keys.ok("GET", f"/v1/prices/p/{path}") == made
    assert name in (await keys.entry(subjects.PRICES_BUCKET, "p", PriceBook)).models
    models = [name, f"p/{name}"]
    key = await keys.ok("POST", "/v1/tenants/acme/keys", {"name": "k", "models": models})
    assert (await keys.entry(subjects.DIRECTORY_BUCKET, key["id"], KeyEntry)).models == tuple(models)
    resumed = {"provider": "p", "model": name}
    assert (await keys.http.post("/v1/tenants/acme/models/resume", json=resumed)).status_code < 300


async def test_prices_are_listed_in_pages_whatever_models_are_called(keys: Keys) -> None:
    for name in NAMES:
        await keys.ok("PUT", f"/v1/prices/p/{quote(name)}", PRICE)
    page = await keys.ok("GET", "/v1/prices?provider=p&limit=3")
    seen = [price["model"] for price in page["prices"]]
    while page["next"]:
        page = await keys.ok("GET", f"/v1/prices?provider=p&limit=3&after={quote(page['next'], safe='')}")
        seen += [price["model"] for price in page["prices"]]
    assert seen == sorted(NAMES)


@pytest.mark.parametrize("name", [name for name in WRONG if name])
async def test_what_is_no_name_is_refused_with_what_is_allowed(keys: Keys, name: str) -> None:
    answer = await keys.http.put(f"/v1/prices/p/{quote(name, safe='')}", json=PRICE)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["param"]) == (400, "request_invalid", "model")
    assert "letters, digits or . _ : @ / + ~ # -" in error["message"]
    policy = {"name": "k", "models": [name + "x" * 64 if len(name) > 100 else name]}
    assert await keys.wrong("POST", "/v1/tenants/acme/keys", policy) == (400, "request_invalid", "models.0")


async def test_a_base_url_with_an_endpoint_is_refused(keys: Keys) -> None:
    for url, right in (
        ("https://api.openai.com/v1/chat/completions", "https://api.openai.com/v1"),
        ("https://api.mistral.ai/v1/embeddings/", "https://api.mistral.ai/v1"),
        ("https://api.x.ai/v1/responses", "https://api.x.ai/v1"),
        ("https://api.anthropic.com/v1/messages", "https://api.anthropic.com/v1"),
        ("https://openrouter.ai/api/v1/models", "https://openrouter.ai/api/v1"),
    ):
        answer = await keys.http.post("/v1/providers", json={"id": "q", "kind": "x", "base_url": url})
        error = answer.json()["error"]
        assert (answer.status_code, error["type"], error["param"]) == (400, "request_invalid", "base_url")
        assert f"use `{right}`" in error["message"]
    assert "q" not in [one["id"] for one in (await keys.ok("GET", "/v1/providers"))["providers"]]
