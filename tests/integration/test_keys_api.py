"""The operators' API with a real log behind it: every route, what it stores, what it shows, what it refuses."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from keyforge.contracts import keyformat, subjects
from keyforge.contracts.directory import KeyEntry
from keyforge.keys.application.tenants import WRITES_BURST
from keyforge.testkit.nats_server import NatsNode
from tests.integration.keys_stack import SECRETS, Home, Keys

USD = {"unit": "usd", "window": "month", "cap": "5"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    node = NatsNode(tmp_path_factory.mktemp("keys"))
    try:
        node.start()
        yield Home(node)
    finally:
        node.stop()


@pytest.fixture
async def keys(home: Home) -> AsyncIterator[Keys]:
    async with home.keys() as running:
        yield running


async def test_a_tenant_is_made_shown_changed_and_listed(keys: Keys) -> None:
    made = await keys.ok("POST", "/v1/tenants", {"id": "acme", "name": "Acme", "limits": [USD]})
    assert made["limits"] == [USD]
    assert (made["plan"], made["status"], made["revision"]) == ("default", "active", 1)
    assert await keys.ok("GET", "/v1/tenants/acme") == made
    changed = await keys.ok("PATCH", "/v1/tenants/acme", {"status": "suspended"})
    assert (changed["status"], changed["name"], changed["limits"], changed["revision"]) == (
        "suspended",
        "Acme",
        [USD],
        2,
    )
    cleared = await keys.ok("PATCH", "/v1/tenants/acme", {"limits": None, "status": "active", "plan": None})
    assert (cleared["limits"], cleared["revision"]) == ([], 3)
    assert (await keys.ok("PATCH", "/v1/tenants/acme", {"status": "active"}))["revision"] == 3
    assert cleared in (await keys.ok("GET", "/v1/tenants"))["tenants"]
    assert await keys.wrong("POST", "/v1/tenants", {"id": "acme", "name": "x"}) == (409, "already_exists", "id")
    assert await keys.wrong("GET", "/v1/tenants/nobody") == (404, "not_found", None)
    assert await keys.wrong("PATCH", "/v1/tenants/nobody", {}) == (404, "not_found", None)


async def test_tenants_are_spread_and_listed_in_pages(keys: Keys) -> None:
    made = [await keys.ok("POST", "/v1/tenants", {"id": f"spread-{n}", "name": "x"}) for n in range(8)]
    assert {tenant["partition"] for tenant in made} == {0, 1, 2, 3}
    page = await keys.ok("GET", "/v1/tenants?limit=3")
    seen = [tenant["id"] for tenant in page["tenants"]]
    while page["next"]:
        page = await keys.ok("GET", f"/v1/tenants?limit=3&after={page['next']}")
        assert len(page["tenants"]) <= 3
        seen += [tenant["id"] for tenant in page["tenants"]]
    assert seen == sorted(seen)
    assert {f"spread-{n}" for n in range(8)} <= set(seen)


@pytest.mark.parametrize(
    ("noun", "path"),
    [
        pytest.param("tenants", "/v1/tenants", id="tenants"),
        pytest.param("keys", "/v1/tenants/listed/keys", id="keys"),
        pytest.param("providers", "/v1/providers", id="providers"),
        pytest.param("credentials", "/v1/providers/listed/credentials", id="credentials"),
        pytest.param("prices", "/v1/prices?provider=listed", id="prices"),
        pytest.param("operators", "/v1/operators", id="operators"),
    ],
)
async def test_every_list_has_the_same_pages(keys: Keys, noun: str, path: str) -> None:
    """`limit` entries under their noun; `next` is the `after` of the next page, and null on the last."""
    for number in range(3):
        await keys.http.post("/v1/tenants", json={"id": "listed" if number == 0 else f"listed-{number}", "name": "x"})
        provider = {"id": "listed" if number == 0 else f"listed-{number}", "kind": "x", "base_url": "https://a.example"}
        await keys.http.post("/v1/providers", json=provider)
        await keys.http.post("/v1/tenants/listed/keys", json={"name": "k"})
        await keys.http.post("/v1/providers/listed/credentials", json={"secret": "fixture-secret"})
        await keys.http.put(f"/v1/prices/listed/m{number}", json={"input_per_mtok": "1", "output_per_mtok": "1"})
        await keys.http.post("/v1/operators", json={})
    mark = "&" if "?" in path else "?"
    whole = await keys.ok("GET", f"{path}{mark}limit=500")
    assert set(whole) == {noun, "next"}
    assert whole["next"] is None
    assert len(whole[noun]) >= 3
    page = await keys.ok("GET", f"{path}{mark}limit=2")
    seen = page[noun]
    while page["next"] is not None:
        assert len(page[noun]) == 2
        page = await keys.ok("GET", f"{path}{mark}limit=2&after={page['next']}")
        assert set(page) == {noun, "next"}
        seen = seen + page[noun]
    assert seen == whole[noun]


async def test_a_key_is_issued_shown_once_changed_and_revoked(keys: Keys) -> None:
    tenant = await keys.ok("POST", "/v1/tenants", {"id": "keyed", "name": "Keyed"})
    body = {
        "name": "bot",
        "models": ["openai/gpt-4o", "small"],
        "limits": [USD, {"unit": "concurrency", "cap": 4}],
        "max_output_tokens": 512,
        "expires_at": "2100-01-01T00:00:00Z",
    }
    issued = await keys.ok("POST", "/v1/tenants/keyed/keys", body)
    text = issued.pop("key")
    assert keyformat.parse_id("vk", text, SECRETS) == issued["id"]
    assert issued["limits"][1] == {"unit": "concurrency", "window": "total", "cap": 4}
    path = f"/v1/tenants/keyed/keys/{issued['id']}"
    assert await keys.ok("GET", path) == issued
    assert (await keys.ok("GET", "/v1/tenants/keyed/keys"))["keys"] == [issued]
    entry = await keys.entry(subjects.DIRECTORY_BUCKET, issued["id"], KeyEntry)
    assert entry.digest == keyformat.digest(text, SECRETS)
    assert (entry.tenant, entry.partition, entry.status, entry.revision) == ("keyed", tenant["partition"], "active", 1)
    assert (entry.models, entry.max_output_tokens) == (("openai/gpt-4o", "small"), 512)

    changed = await keys.ok("PATCH", path, {"models": None, "max_output_tokens": 9})
    assert (changed["models"], changed["max_output_tokens"], changed["limits"]) == (None, 9, issued["limits"])
    assert (await keys.entry(subjects.DIRECTORY_BUCKET, issued["id"], KeyEntry)).revision == 2

    revoked = await keys.ok("POST", f"{path}/revoke", {"reason": "leaked"}, status=200)
    assert (revoked["status"], revoked["revision"]) == ("revoked", 3)
    assert await keys.ok("POST", f"{path}/revoke", status=200) == revoked
    entry = await keys.entry(subjects.DIRECTORY_BUCKET, issued["id"], KeyEntry)
    assert (entry.status, entry.revision) == ("revoked", 3)
    refused = await keys.http.patch(path, json={"name": "x"})
    assert (refused.status_code, refused.json()["error"]["type"]) == (409, "already_revoked")
    assert refused.headers["x-should-retry"] == "false", "asking again will not help, unlike with a conflict"


async def test_a_key_is_its_tenants_alone(keys: Keys) -> None:
    for tenant in ("mine", "yours"):
        await keys.ok("POST", "/v1/tenants", {"id": tenant, "name": tenant})
    key = (await keys.ok("POST", "/v1/tenants/mine/keys", {"name": "k"}))["id"]
    for method, path, body in (
        ("GET", f"/v1/tenants/yours/keys/{key}", None),
        ("PATCH", f"/v1/tenants/yours/keys/{key}", {"name": "stolen"}),
        ("POST", f"/v1/tenants/yours/keys/{key}/revoke", None),
    ):
        assert await keys.wrong(method, path, body) == (404, "not_found", None)


async def test_a_plan_cannot_be_raced(keys: Keys) -> None:
    await keys.ok("POST", "/v1/tenants", {"id": "small", "name": "x", "plan": "free"})
    answers = await asyncio.gather(
        *(keys.http.post("/v1/tenants/small/keys", json={"name": f"k{n}"}) for n in range(20))
    )
    assert sorted(answer.status_code for answer in answers) == [201] * 3 + [403] * 17
    made = next(answer.json()["id"] for answer in answers if answer.status_code == 201)
    assert await keys.wrong("POST", "/v1/tenants/small/keys", {"name": "x"}) == (403, "plan_exceeded", None)
    await keys.ok("POST", f"/v1/tenants/small/keys/{made}/revoke", status=200)
    await keys.ok("POST", "/v1/tenants/small/keys", {"name": "again"})
    await keys.ok("POST", "/v1/tenants", {"id": "large", "name": "x"})
    for n in range(4):
        await keys.ok("POST", "/v1/tenants/large/keys", {"name": f"k{n}"})
    assert await keys.wrong("PATCH", "/v1/tenants/large", {"plan": "free"}) == (403, "plan_exceeded", "plan")
    assert await keys.wrong("PATCH", "/v1/tenants/large", {"plan": "gold"}) == (400, "request_invalid", "plan")


async def test_changes_of_a_tenant_are_paced_and_revoking_is_not(keys: Keys) -> None:
    await keys.ok("POST", "/v1/tenants", {"id": "busy", "name": "x"})
    key = (await keys.ok("POST", "/v1/tenants/busy/keys", {"name": "k"}))["id"]
    answers = await asyncio.gather(
        *(keys.http.patch("/v1/tenants/busy", json={"name": f"n{n}"}) for n in range(int(WRITES_BURST) + 20))
    )
    held = [answer for answer in answers if answer.status_code == 429]
    assert held
    assert {answer.status_code for answer in answers} == {200, 429}
    assert held[0].json()["error"]["type"] == "rate_limited"
    assert held[0].headers["retry-after"] == "1"
    await keys.ok("POST", f"/v1/tenants/busy/keys/{key}/revoke", status=200)


async def test_a_tenant_id_is_given_once(keys: Keys) -> None:
    answers = await asyncio.gather(*(keys.http.post("/v1/tenants", json={"id": "one", "name": "x"}) for _ in range(10)))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 9


async def test_a_frozen_model_is_resumed(keys: Keys) -> None:
    await keys.ok("POST", "/v1/tenants", {"id": "frozen", "name": "x"})
    for _ in range(2):
        done = await keys.ok(
            "POST", "/v1/tenants/frozen/models/resume", {"provider": "openai", "model": "gpt-4o"}, status=200
        )
        assert done == {"tenant": "frozen", "provider": "openai", "model": "gpt-4o"}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        pytest.param({"name": "x"}, "id", id="no id"),
        pytest.param({"id": "Acme", "name": "x"}, "id", id="upper case"),
        pytest.param({"id": "a" * 64, "name": "x"}, "id", id="too long"),
        pytest.param({"id": "a", "name": ""}, "name", id="no name"),
        pytest.param({"id": "a", "name": "x", "colour": 1}, "colour", id="unknown field"),
        pytest.param({"id": "a", "name": 1}, "name", id="wrong type"),
        pytest.param({"id": "a", "name": "x", "plan": "gold"}, "plan", id="no such plan"),
        pytest.param({"id": "a", "name": "x", "limits": [USD, USD]}, "limits.1", id="twice"),
        pytest.param({"id": "a", "name": "x", "limits": [{**USD, "cap": 5}]}, "limits.0.cap", id="usd as a number"),
        pytest.param({"id": "a", "name": "x", "limits": [{**USD, "cap": "-5"}]}, "limits.0.cap", id="below nothing"),
        pytest.param({"id": "a", "name": "x", "limits": [{**USD, "window": "year"}]}, "limits.0.window", id="window"),
        pytest.param(
            {"id": "a", "name": "x", "limits": [{"unit": "concurrency", "window": "day", "cap": 1}]},
            "limits.0.window",
            id="concurrency per day",
        ),
        pytest.param(
            {"id": "a", "name": "x", "limits": [{"unit": "tokens", "window": "day", "cap": "1.5"}]},
            "limits.0.cap",
            id="tokens in parts",
        ),
    ],
)
async def test_a_bad_tenant_is_refused_by_its_field(keys: Keys, body: dict[str, Any], param: str) -> None:
    status, type_, named = await keys.wrong("POST", "/v1/tenants", body)
    assert (status, type_) == (400, "request_invalid")
    assert named == param


@pytest.mark.parametrize("cap", ["-5", -5, "5 dollars", 1.5, True, None])
async def test_a_cap_that_is_none_is_told_what_a_cap_is(keys: Keys, cap: object) -> None:
    answer = await keys.http.post("/v1/tenants", json={"id": "a", "name": "x", "limits": [{**USD, "cap": cap}]})
    assert answer.json()["error"]["message"].startswith("`limits.0.cap`: must be a decimal string of dollars on usd")


async def test_bad_json_is_refused_as_what_it_is(keys: Keys) -> None:
    for content, type_ in (
        (b'{"id":"a","id":"b","name":"x"}', "json_duplicate_key"),
        (b"{", "json_invalid"),
        (b'{"name":"' + b"x" * 300_000 + b'"}', "body_too_large"),
    ):
        answer = await keys.http.post("/v1/tenants", content=content, headers={"content-type": "application/json"})
        assert answer.json()["error"]["type"] == type_
    assert await keys.wrong("GET", "/v1/nothing") == (404, "route_unknown", None)
    assert await keys.wrong("DELETE", "/v1/tenants") == (405, "method_not_allowed", None)
    assert (await keys.http.delete("/v1/tenants")).headers["allow"] == "GET, HEAD, POST"


async def test_health_and_metrics(keys: Keys) -> None:
    assert (await keys.ok("GET", "/readyz")) == {
        "ready": True,
        "checks": dict.fromkeys(("started", "log", "durability", "folds"), True),
        "details": {},
    }
    await keys.ok("POST", "/v1/tenants", {"id": "measured", "name": "x"})
    metrics = (await keys.http.get("/metrics")).text
    assert 'keyforge_keys_commands_waiting{queue="platform"} 0.0' in metrics
    assert "keyforge_keys_entries_lagging 0.0" in metrics
    assert 'keyforge_keys_fold_halted{queue="0"} 0.0' in metrics
    assert 'keyforge_keys_append_seconds_count{queue="0"}' in metrics


async def test_an_answer_names_what_was_not_found(keys: Keys) -> None:
    await keys.ok("POST", "/v1/tenants", {"id": "named", "name": "Named"})
    await keys.ok(
        "POST", "/v1/providers", {"id": "named", "kind": "openai-compatible", "base_url": "https://example.com/v1"}
    )
    for method, path, body, what in (
        ("GET", "/v1/tenants/nobody", None, "Tenant"),
        ("PATCH", "/v1/tenants/nobody", {"name": "x"}, "Tenant"),
        ("GET", "/v1/tenants/nobody/keys", None, "Tenant"),
        ("POST", "/v1/tenants/nobody/keys", {"name": "k"}, "Tenant"),
        ("GET", "/v1/tenants/named/keys/nokey", None, "Key"),
        ("PATCH", "/v1/tenants/named/keys/nokey", {"name": "x"}, "Key"),
        ("POST", "/v1/tenants/named/keys/nokey/revoke", None, "Key"),
        ("GET", "/v1/providers/nobody/credentials", None, "Provider"),
        ("POST", "/v1/providers/nobody/credentials", {"secret": "not-a-real-secret"}, "Provider"),
        ("POST", "/v1/providers/named/credentials/none/revoke", None, "Credential"),
        ("GET", "/v1/prices/named/nomodel", None, "Price"),
        ("POST", "/v1/operators/nobody/revoke", None, "Operator"),
    ):
        answer = await keys.http.request(method, path, json=body)
        assert (answer.status_code, answer.json()["error"]["message"]) == (404, f"{what} not found."), path
