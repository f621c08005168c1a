"""Names and reasons are in the log only encrypted; the API shows them until a tenant is forgotten or one is altered."""

import asyncio
import base64
from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from keyforge.contracts import frame, subjects
from keyforge.contracts.events import KeyCreated, KeyRevoked, KeyUpdated, TenantCreated, TenantUpdated
from keyforge.contracts.frame import Recorded
from keyforge.contracts.ids import TenantId
from keyforge.contracts.personal_fields import EncryptedText
from keyforge.contracts.tenant_secrets import TenantSecrets, WrappedSecret
from keyforge.eventlog import jetstream_api, streams
from keyforge.keys.outbound import tenant_secrets
from keyforge.runtime.buckets import Bucket
from keyforge.runtime.personal_fields import FieldKeys
from keyforge.runtime.tenant_secrets import SecretWrapper
from keyforge.testkit.frames import text_of
from keyforge.testkit.nats_server import NatsNode
from keyforge.testkit.ticks import append_tick
from tests.integration.keys_stack import COMMITMENT_SECRET, PARTITIONS, Home, Keys

TENANT_NAME = "canary-tenant-saffron-lighthouse"
OTHER_NAME = "canary-tenant-marble-canyon"
KEY_NAME = "canary-key-copper-meadow"
REASON = "canary-reason-amber-railway"
CANARIES = (TENANT_NAME, OTHER_NAME, KEY_NAME, REASON)
WITHIN_S = 60.0
Named = TenantCreated | TenantUpdated | KeyCreated | KeyUpdated


@pytest.fixture
def home(nats_own: Callable[..., NatsNode]) -> Home:
    return Home(nats_own())


async def raw(keys: Keys, stream: str) -> list[tuple[str, bytes]]:
    """The messages of a stream, as they lie there."""
    found: list[tuple[str, bytes]] = []
    end = await keys.log.end(stream)
    if end == 0:
        return found
    async with asyncio.timeout(WITHIN_S), aclosing(keys.log.read(stream, forgets=True)) as batches:
        async for messages in batches:
            found += [(message.subject, message.data) for message in messages]
            if messages[-1].seq >= end:
                break
    return found


async def events_of(keys: Keys, partition: int) -> list[Any]:
    """The events of keys in a partition, in order."""
    read = [frame.decode(data, subject) for subject, data in await raw(keys, subjects.log_stream(partition))]
    return [one.event for events in read for one in events if isinstance(one, Recorded)]


async def fill(keys: Keys) -> str:
    """Two tenants, a key that is revoked for a reason, one that stays; return the id of the first."""
    await keys.ok("POST", "/v1/tenants", {"id": "acme", "name": TENANT_NAME})
    await keys.ok("POST", "/v1/tenants", {"id": "other", "name": OTHER_NAME})
    made = await keys.ok("POST", "/v1/tenants/acme/keys", {"name": KEY_NAME})
    await keys.ok("POST", "/v1/tenants/acme/keys", {"name": "stays"})
    await keys.ok("POST", "/v1/tenants/other/keys", {"name": KEY_NAME})
    path = f"/v1/tenants/acme/keys/{made['id']}"
    await keys.ok("PATCH", path, {"max_output_tokens": 7})
    await keys.ok("POST", f"{path}/revoke", {"reason": REASON}, status=200)
    return str(made["id"])


def secrets_of(keys: Keys) -> Bucket:
    return Bucket(keys.bus.nats_py, keys.log, subjects.TENANT_SECRETS_BUCKET)


async def names_of(keys: Keys, path: str) -> list[tuple[str | None, str | None]]:
    listed = await keys.ok("GET", path)
    (entries,) = [value for value in listed.values() if isinstance(value, list)]
    return [(one["name"], one.get("reason")) for one in entries]


async def test_no_stream_holds_a_name_or_a_reason_and_the_api_shows_them(home: Home) -> None:
    with capture_logs() as logged:
        async with home.keys() as keys:
            id_ = await fill(keys)
            assert await names_of(keys, "/v1/tenants") == [(TENANT_NAME, None), (OTHER_NAME, None)]
            assert await names_of(keys, "/v1/tenants/acme/keys") == [(KEY_NAME, REASON), ("stays", None)]
            every = [spec.name for spec in streams.specs(range(PARTITIONS), replicas=1)]
            held = {stream: await raw(keys, stream) for stream in every}
            metrics = (await keys.http.get("/metrics")).content
    texts = [text_of(data) for messages in held.values() for _, data in messages]
    written = b"\n".join(texts) + repr(logged).encode() + metrics
    assert sum(b'"type":"keyforge.key.created.v1"' in text for text in texts) == 3  # frames are read, not their bytes
    assert id_.encode() in written  # the search is able to find
    for canary in CANARIES:
        shown = canary.encode()
        for form in (shown, base64.b64encode(shown), base64.b64encode(shown)[:-4], shown.hex().encode()):
            assert form not in written, canary
    assert any(subject == "$KV.KF_TENANT_SECRETS.acme" for subject, _ in held["KV_KF_TENANT_SECRETS"])


async def test_a_patch_without_a_name_carries_the_ciphertext_over(home: Home) -> None:
    async with home.keys() as keys:
        await fill(keys)
        tenant = await keys.ok("PATCH", "/v1/tenants/acme", {"status": "suspended"})
        assert (tenant["name"], tenant["revision"]) == (TENANT_NAME, 2)
        events = await events_of(keys, tenant["partition"])
        tenants = [one for one in events if isinstance(one, TenantCreated | TenantUpdated) and one.tenant == "acme"]
        assert [type(one) for one in tenants] == [TenantCreated, TenantUpdated]
        assert len({(one.name, one.secret_version) for one in tenants}) == 1
        (updated,) = [one for one in events if isinstance(one, KeyUpdated)]
        (created,) = [one for one in events if isinstance(one, KeyCreated) and one.key_id == updated.key_id]
        assert (updated.name, updated.secret_version) == (created.name, created.secret_version)
        names = [one.name for one in events if isinstance(one, Named)]
        assert len(set(names)) == len(names) - 2  # every other is encrypted anew: equal names show nothing


async def test_the_same_name_changes_nothing_and_another_one_does(home: Home) -> None:
    async with home.keys() as keys:
        await fill(keys)
        made = await keys.ok("POST", "/v1/tenants/acme/keys", {"name": "bot"})
        for path, name in (("/v1/tenants/acme", TENANT_NAME), (f"/v1/tenants/acme/keys/{made['id']}", "bot")):
            same = await keys.ok("PATCH", path, {"name": name})
            assert (same["name"], same["revision"]) == (name, 1)
            renamed = await keys.ok("PATCH", path, {"name": "new"})
            assert (renamed["name"], renamed["revision"]) == ("new", 2)
            back = await asyncio.gather(*(keys.ok("PATCH", path, {"name": name}) for _ in range(5)))
            assert {(one["name"], one["revision"]) for one in back} == {(name, 3)}


async def test_a_forgotten_tenant_has_no_names_and_nobody_else_loses_theirs(home: Home) -> None:
    async with home.keys() as keys:
        await fill(keys)
        before = await keys.ok("GET", "/v1/tenants/acme")
        listed = await keys.ok("GET", "/v1/tenants/acme/keys")
        await secrets_of(keys).delete("acme")
    async with home.keys() as keys:
        assert keys.service.checks()["folds"]
        assert await keys.ok("GET", "/v1/tenants/acme") == before | {"name": None}
        gone = [key | {"name": None, "reason": None} for key in listed["keys"]]
        assert (await keys.ok("GET", "/v1/tenants/acme/keys"))["keys"] == gone
        assert await names_of(keys, "/v1/tenants") == [(None, None), (OTHER_NAME, None)]
        assert await names_of(keys, "/v1/tenants/other/keys") == [(KEY_NAME, None)]
        # What needs no name goes on; a name can be stored no more, and no second secret is made.
        assert (await keys.ok("PATCH", "/v1/tenants/acme", {"status": "suspended"}))["name"] is None
        path = f"/v1/tenants/acme/keys/{gone[1]['id']}"
        forgotten = (409, "tenant_forgotten", None)
        assert await keys.wrong("PATCH", "/v1/tenants/acme", {"name": "x"}) == forgotten
        assert await keys.wrong("PATCH", path, {"name": "x"}) == forgotten
        assert await keys.wrong("POST", "/v1/tenants/acme/keys", {"name": "x"}) == forgotten
        assert await keys.wrong("POST", "/v1/tenants", {"id": "acme", "name": "x"}) == (409, "already_exists", "id")
        revoked = await keys.ok("POST", f"{path}/revoke", {"reason": REASON}, status=200)
        assert (revoked["status"], revoked["reason"]) == ("revoked", None)
        assert await secrets_of(keys).get("acme") is None
        (last,) = [one for one in await events_of(keys, before["partition"]) if isinstance(one, KeyRevoked)][-1:]
        assert (last.reason, last.secret_version) == (None, None)


async def test_while_secrets_cannot_be_read_nothing_is_shown_or_named_and_access_still_ends(home: Home) -> None:
    async with home.keys() as keys:
        id_ = await fill(keys)
        (stays,) = [key["id"] for key in (await keys.ok("GET", "/v1/tenants/acme/keys"))["keys"] if key["id"] != id_]
    async with home.keys() as keys:
        stream = subjects.bucket_stream(subjects.TENANT_SECRETS_BUCKET)
        await jetstream_api.call(keys.bus.nats, f"STREAM.DELETE.{stream}", {})
        unavailable = (503, "policy_unavailable", None)
        path = f"/v1/tenants/acme/keys/{stays}"
        for asked in ("/v1/tenants", "/v1/tenants/acme", "/v1/tenants/acme/keys", path):
            assert await keys.wrong("GET", asked) == unavailable
        assert await keys.wrong("PATCH", path, {"name": "x"}) == unavailable
        assert await keys.wrong("POST", "/v1/tenants/acme/keys", {"name": "x"}) == unavailable
        suspended = await keys.ok("PATCH", "/v1/tenants/acme", {"status": "suspended"})
        assert (suspended["status"], suspended["name"]) == ("suspended", None)
        revoked = await keys.ok("POST", f"{path}/revoke", {"reason": REASON}, status=200)
        assert (revoked["status"], revoked["name"], revoked["reason"]) == ("revoked", None, None)
        assert await keys.wrong("GET", "/v1/tenants/nobody") == (404, "not_found", None)


async def forge(keys: Keys, **changed: Any) -> None:
    """Append what nobody with a secret wrote: the tenant's last event once more, with another name."""
    tenant = await keys.ok("GET", "/v1/tenants/acme")
    (last, *_) = [one for one in await events_of(keys, tenant["partition"]) if isinstance(one, TenantCreated)]
    event = TenantUpdated(
        tenant=TenantId("acme"),
        name=last.name,
        plan=last.plan,
        status="active",
        limits=(),
        revision=tenant["revision"] + 1,
        secret_version=last.secret_version,
        by=last.by,
    )
    forged = Recorded(f"tenant:acme.{event.revision}", "keys", datetime.now(UTC), replace(event, **changed))
    await append_tick(keys.log, tenant["partition"], frame.encode([forged]))
    async with asyncio.timeout(WITHIN_S):
        while (await keys.ok("GET", "/v1/tenants/acme"))["revision"] < event.revision:  # noqa: ASYNC110  # over HTTP
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"name": EncryptedText(base64.b64encode(bytes(60)).decode())}, id="altered"),
        pytest.param({"secret_version": 9}, id="a version that never was"),
    ],
)
async def test_a_name_that_does_not_open_is_not_shown_and_is_reported(home: Home, changed: dict[str, Any]) -> None:
    async with home.keys() as keys:
        await fill(keys)
        await forge(keys, **changed)
        with capture_logs() as logged:
            assert await names_of(keys, "/v1/tenants") == [(None, None), (OTHER_NAME, None)]
        (line,) = [one for one in logged if one["event"] == "field does not open"]
        assert (line["log_level"], line["tenant"], line["field"]) == ("error", "acme", "name")
        assert await names_of(keys, "/v1/tenants/acme/keys") == [(KEY_NAME, REASON), ("stays", None)]
        assert (await keys.ok("PATCH", "/v1/tenants/acme", {"status": "suspended"}))["name"] is None
        assert (await keys.ok("PATCH", "/v1/tenants/acme", {"name": TENANT_NAME}))["name"] == TENANT_NAME


async def test_a_later_version_of_a_secret_is_read_when_an_event_names_it(home: Home) -> None:
    async with home.keys() as keys:
        await fill(keys)
        wrapper, tenant = SecretWrapper(COMMITMENT_SECRET), TenantId("acme")
        entry = await secrets_of(keys).get("acme")
        assert entry is not None
        every = wrapper.every(tenant, entry.value or b"") | {2: bytes(range(32))}
        wrapped = tuple(WrappedSecret(version=at, wrapped=wrapper.wrap(tenant, at, one)) for at, one in every.items())
        await secrets_of(keys).put("acme", msgspec.json.encode(TenantSecrets(tenant=tenant, secrets=wrapped)))
        later = FieldKeys(tenant, every).encrypt("later", "name", nonce=bytes(12))
        await forge(keys, name=later.text, secret_version=later.secret_version)
        assert await names_of(keys, "/v1/tenants") == [("later", None), (OTHER_NAME, None)]
        assert await names_of(keys, "/v1/tenants/acme/keys") == [(KEY_NAME, REASON), ("stays", None)]
        renamed = await keys.ok("PATCH", "/v1/tenants/acme", {"name": "under the second"})
        assert renamed["name"] == "under the second"
        (last,) = [one for one in await events_of(keys, renamed["partition"]) if isinstance(one, TenantUpdated)][-1:]
        assert last.secret_version == 2


async def test_secrets_that_do_not_open_spoil_no_list_and_name_nothing(home: Home) -> None:
    async with home.keys() as keys:
        await fill(keys)
        await secrets_of(keys).put("acme", b'{"tenant":"acme","secrets":[{"version":1,"wrapped":"AAEC"}]}')
    async with home.keys() as keys:
        assert await names_of(keys, "/v1/tenants") == [(None, None), (OTHER_NAME, None)]
        assert await keys.wrong("PATCH", "/v1/tenants/acme", {"name": "x"}) == (500, "internal", None)
        assert (await keys.ok("PATCH", "/v1/tenants/acme", {"status": "suspended"}))["status"] == "suspended"


async def test_what_was_opened_is_kept_and_what_is_gone_is_looked_for_again(home: Home) -> None:
    async with home.keys() as keys:
        await fill(keys)
        secrets = secrets_of(keys)
        entry = await secrets.get("acme")
        assert entry is not None
        await secrets.delete("acme")
        assert (await keys.ok("GET", "/v1/tenants/acme"))["name"] == TENANT_NAME
    async with home.keys() as keys:
        assert (await keys.ok("GET", "/v1/tenants/acme"))["name"] is None
        await secrets_of(keys).put("acme", entry.value or b"")  # restored from a backup
        assert (await keys.ok("GET", "/v1/tenants/acme"))["name"] == TENANT_NAME


async def test_what_is_kept_is_bounded(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tenant_secrets, "TENANTS_MAX", 1)
    async with home.keys() as keys:
        await fill(keys)
        assert await names_of(keys, "/v1/tenants") == [(TENANT_NAME, None), (OTHER_NAME, None)]
        for tenant in ("acme", "other"):
            await secrets_of(keys).delete(tenant)
        assert [name for name, _ in await names_of(keys, "/v1/tenants")].count(None) == 1


async def test_of_creations_of_one_tenant_at_the_same_moment_one_name_stays(home: Home) -> None:
    async with home.keys() as one, home.keys() as other:
        asked = [
            keys.http.post("/v1/tenants", json={"id": "acme", "name": f"n{number}"})
            for number in range(4)
            for keys in (one, other)
        ]
        answers = await asyncio.gather(*asked)
        assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7
        (made,) = [answer.json() for answer in answers if answer.status_code == 201]
        again = await one.wrong("POST", "/v1/tenants", {"id": "acme", "name": made["name"]})
        assert again == (409, "already_exists", "id")
        assert (await one.ok("GET", "/v1/tenants/acme"))["name"] == made["name"]
