"""What belongs to no tenant, over the operators' API with a real log behind it: credentials, prices, tokens."""

import zlib
from collections.abc import AsyncIterator, Iterator

import pytest

from keyforge.contracts import keyformat, subjects
from keyforge.contracts.directory import CredentialEntry, PriceBook, ProviderEntry, TokenEntry
from keyforge.runtime.encryption import Binding, EncryptionError
from keyforge.testkit.nats_server import NatsNode
from tests.integration.keys_stack import SECRETS, Home, Keys


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


async def test_a_credential_is_encrypted_to_the_edges(keys: Keys) -> None:
    url = "https://api.example.com/v1"
    provider = await keys.ok(
        "POST", "/v1/providers", {"id": "encrypted", "kind": "openai-compatible", "base_url": url + "/"}
    )
    assert provider["base_url"] == url
    assert await keys.entry(subjects.PROVIDERS_BUCKET, "encrypted", ProviderEntry) is not None
    body = {"secret": "fixture-credential-canary", "weight": 3, "quota_group": "account-1"}
    made = await keys.ok("POST", "/v1/providers/encrypted/credentials", body)
    assert "fixture" not in str(made)
    listed = await keys.ok("GET", "/v1/providers/encrypted/credentials")
    assert listed == {"credentials": [made], "next": None}
    entry = await keys.entry(subjects.CREDENTIALS_BUCKET, f"encrypted.{made['id']}", CredentialEntry)
    assert (entry.weight, entry.quota_group, entry.encrypted_to) == (3, "account-1", keys.decrypter.key_id)
    binding = Binding(credential=entry.credential, version=entry.version, provider="encrypted", base_url=url)
    assert keys.decrypter.decrypt(entry.encrypted, binding) == "fixture-credential-canary"
    with pytest.raises(EncryptionError):
        keys.decrypter.decrypt(
            entry.encrypted, Binding(credential=entry.credential, version=1, provider="evil", base_url=url)
        )
    assert await keys.wrong("POST", "/v1/providers/none/credentials", body) == (404, "not_found", None)


async def test_prices_come_from_the_data_and_an_operator_wins(keys: Keys) -> None:
    await keys.ok("POST", "/v1/providers", {"id": "openai", "kind": "openai", "base_url": "https://api.openai.com/v1"})
    known = await keys.ok("GET", "/v1/prices/openai/gpt-4o-mini")
    assert known["source"].startswith("genai-prices ")
    book = await keys.entry(subjects.PRICES_BUCKET, "openai", PriceBook)
    assert len(book.models) > 100
    assert book.models["gpt-4o-mini"].price_id == known["price_id"] == "openai/gpt-4o-mini@1"

    body = {"input_per_mtok": "1.5", "output_per_mtok": "6", "max_output_tokens": 100, "max_thinking_tokens": 5000}
    mine = await keys.ok("PUT", "/v1/prices/openai/gpt-4o-mini", body)
    assert (mine["source"], mine["price_id"]) == ("operator", "openai/gpt-4o-mini@2")
    assert (mine["input_per_mtok"], mine["cache_read_per_mtok"], mine["reasoning_per_mtok"]) == ("1.5", "1.5", "6")
    assert await keys.ok("PUT", "/v1/prices/openai/gpt-4o-mini", body) == mine
    url = "https://eu.api.openai.com/v1"
    await keys.ok("POST", "/v1/providers", {"id": "openai", "kind": "openai", "base_url": url})
    assert await keys.ok("GET", "/v1/prices/openai/gpt-4o-mini") == mine
    entry = (await keys.entry(subjects.PRICES_BUCKET, "openai", PriceBook)).models["gpt-4o-mini"]
    assert (entry.prices.input_nusd, entry.max_output_tokens, entry.max_thinking_tokens) == (1_500_000_000, 100, 5000)

    new = await keys.ok("PUT", "/v1/prices/openai/my/own:model", {"input_per_mtok": "0", "output_per_mtok": "0"})
    assert new["model"] == "my/own:model"
    assert await keys.wrong("PUT", "/v1/prices/nobody/m", body) == (404, "not_found", None)
    page = await keys.ok("GET", "/v1/prices?provider=openai&limit=2")
    assert len(page["prices"]) == 2
    more = await keys.ok("GET", f"/v1/prices?provider=openai&limit=500&after={page['next']}")
    assert len(more["prices"]) == len(book.models) + 1 - 2


async def test_tokens(keys: Keys) -> None:
    assert await keys.entry(subjects.TOKENS_BUCKET, keyformat.parse_id("kfa", keys.token, SECRETS) or "", TokenEntry)
    made = await keys.ok("POST", "/v1/operators", {"role": "platform-auditor"})
    auditor = {"authorization": f"Bearer {made['token']}"}
    assert (await keys.http.get("/v1/tenants", headers=auditor)).status_code == 200
    refused = await keys.http.post("/v1/tenants", json={"id": "x", "name": "x"}, headers=auditor)
    assert refused.json()["error"]["type"] == "forbidden"
    for header, type_ in (("", "token_missing"), ("Bearer kfa_x", "token_invalid"), ("Basic x", "token_invalid")):
        answer = await keys.http.get("/v1/tenants", headers={"authorization": header})
        assert (answer.status_code, answer.json()["error"]["type"]) == (401, type_)


async def test_a_token_is_revoked_and_refused_at_once(keys: Keys) -> None:
    made = await keys.ok("POST", "/v1/operators", {"role": "platform-auditor"})
    text = made.pop("token")
    auditor = {"authorization": f"Bearer {text}"}
    path = f"/v1/operators/{made['id']}/revoke"
    refused = await keys.http.post(path, headers=auditor)
    assert (refused.status_code, refused.json()["error"]["type"]) == (403, "forbidden")

    revoked = await keys.ok("POST", path, {"reason": "left"}, status=200)
    assert revoked == {**made, "status": "revoked", "updated_at": revoked["updated_at"]}
    answer = await keys.http.get("/v1/tenants", headers=auditor)
    assert (answer.status_code, answer.json()["error"]["type"]) == (401, "token_revoked")
    head = text[:-49] + "0" * 43
    forged = head + keyformat._base62(zlib.crc32(head.encode()), keyformat.CRC_CHARS)
    assert keyformat.parse_id("kfa", forged, SECRETS) == made["id"], "well-formed, with another secret"
    answer = await keys.http.get("/v1/tenants", headers={"authorization": f"Bearer {forged}"})
    assert answer.json()["error"]["type"] == "token_invalid", "only the token's holder learns that it was revoked"
    assert await keys.ok("POST", path, status=200) == revoked
    assert revoked in (await keys.ok("GET", "/v1/operators?limit=500"))["operators"]
    assert text not in (await keys.http.get("/v1/operators?limit=500")).text
    assert await keys.wrong("POST", "/v1/operators/nobody/revoke") == (404, "not_found", None)


async def test_a_kind_is_a_preset_of_what_may_be_given_beside_it(keys: Keys) -> None:
    registered = {"id": "preset", "kind": "mistral", "base_url": "https://api.example.com/v1"}
    usual = {"dialects": ["openai-chat"], "auth": "bearer", "price_feed": "mistral"}
    found = await keys.ok("POST", "/v1/providers", registered)
    assert {name: found[name] for name in usual} == usual
    given = {"auth": "api-key", "price_feed": None}
    changed = await keys.ok("POST", "/v1/providers", registered | given)
    assert {name: changed[name] for name in usual} == usual | given
    assert changed["revision"] == found["revision"] + 1
    assert await keys.ok("POST", "/v1/providers", registered | given) == changed, "nothing changed"
    for wrong, param in (
        ({"dialects": ["morse"]}, "dialects.0"),
        ({"dialects": []}, "dialects"),
        ({"auth": "basic"}, "auth"),
        ({"price_feed": "nobody"}, "price_feed"),
    ):
        refused = await keys.wrong("POST", "/v1/providers", registered | wrong)
        assert refused == (400, "request_invalid", param)


async def test_tokens_are_listed_in_pages(keys: Keys) -> None:
    ids = {(await keys.ok("POST", "/v1/operators", {}))["id"] for _ in range(3)}
    page = await keys.ok("GET", "/v1/operators?limit=2")
    seen = [one["id"] for one in page["operators"]]
    while page["next"]:
        page = await keys.ok("GET", f"/v1/operators?limit=2&after={page['next']}")
        seen += [one["id"] for one in page["operators"]]
    assert seen == sorted(set(seen))
    assert ids <= set(seen)
    for id_ in ids:
        await keys.ok("POST", f"/v1/operators/{id_}/revoke", status=200)


async def test_the_last_admin_stays(keys: Keys) -> None:
    """Others are made and ended, and this one is left."""
    own = keyformat.parse_id("kfa", keys.token, SECRETS)
    assert await keys.wrong("POST", f"/v1/operators/{own}/revoke") == (409, "last_admin", None)
    second = await keys.ok("POST", "/v1/operators", {})
    await keys.ok("POST", f"/v1/operators/{second['id']}/revoke", status=200)
    assert await keys.wrong("POST", f"/v1/operators/{own}/revoke") == (409, "last_admin", None)
    await keys.ok("GET", "/v1/operators")


async def test_a_credential_is_revoked_and_what_it_held_is_gone(keys: Keys) -> None:
    url = "https://api.example.com/v1"
    for provider in ("ended", "other"):
        await keys.ok("POST", "/v1/providers", {"id": provider, "kind": "openai-compatible", "base_url": url})
    path = "/v1/providers/ended/credentials"
    gone, stays = [await keys.ok("POST", path, {"secret": f"fixture-{n}"}) for n in range(2)]
    assert (gone["status"], stays["status"]) == ("active", "active")
    wrong = f"/v1/providers/other/credentials/{gone['id']}/revoke"
    assert await keys.wrong("POST", wrong) == (404, "not_found", None)
    made = await keys.ok("POST", "/v1/operators", {"role": "platform-auditor"})
    auditor = {"authorization": f"Bearer {made['token']}"}
    refused = await keys.http.post(f"{path}/{gone['id']}/revoke", headers=auditor)
    assert refused.json()["error"]["type"] == "forbidden"

    revoked = await keys.ok("POST", f"{path}/{gone['id']}/revoke", {"reason": "leaked"}, status=200)
    assert revoked == {**gone, "status": "revoked", "updated_at": revoked["updated_at"]}
    assert await keys.ok("POST", f"{path}/{gone['id']}/revoke", status=200) == revoked
    entry = await keys.entry(subjects.CREDENTIALS_BUCKET, f"ended.{gone['id']}", CredentialEntry)
    assert (entry.status, entry.encrypted) == ("revoked", "")
    entry = await keys.entry(subjects.CREDENTIALS_BUCKET, f"ended.{stays['id']}", CredentialEntry)
    assert (entry.status, entry.encrypted != "") == ("active", True)
    page = await keys.ok("GET", f"{path}?limit=1")
    assert page == {"credentials": [revoked], "next": gone["id"]}
    assert await keys.ok("GET", f"{path}?limit=1&after={page['next']}") == {"credentials": [stays], "next": None}
