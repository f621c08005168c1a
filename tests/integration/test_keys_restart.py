"""What keys is after a restart, a crash at the worst moment, and beside another that writes the same log."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from keyforge.contracts import frame, subjects
from keyforge.contracts.directory import KeyEntry, PriceBook, encode
from keyforge.contracts.events import KeyRevoked, PartitionFenced
from keyforge.contracts.frame import Recorded
from keyforge.contracts.ids import KeyId, OwnerId, TenantId, TokenId
from keyforge.eventlog.jetstream import JetStreamLog
from keyforge.keys.outbound.command_queue import ROUNDS_MAX
from keyforge.runtime import bus
from keyforge.runtime.buckets import Bucket
from keyforge.testkit.nats_server import NatsNode
from keyforge.testkit.ticks import append_tick
from tests.integration.keys_stack import Home, Keys
from tests.pace import within


@pytest.fixture
def home(nats_own: Callable[..., NatsNode]) -> Home:
    return Home(nats_own())


async def everything(keys: Keys) -> list[Any]:
    """All that the API shows."""
    paths = ("/v1/tenants", "/v1/tenants/acme/keys", "/v1/providers", "/v1/providers/openai/credentials", "/v1/prices")
    return [await keys.ok("GET", path) for path in paths]


async def fill(keys: Keys) -> list[str]:
    """Make some of everything; return the ids of the keys."""
    await keys.ok("POST", "/v1/tenants", {"id": "acme", "name": "Acme"})
    made = [await keys.ok("POST", "/v1/tenants/acme/keys", {"name": f"k{n}"}) for n in range(3)]
    ids = [key["id"] for key in made]
    await keys.ok("POST", f"/v1/tenants/acme/keys/{ids[0]}/revoke", status=200)
    await keys.ok("PATCH", f"/v1/tenants/acme/keys/{ids[1]}", {"models": []})
    await keys.ok("POST", "/v1/providers", {"id": "openai", "kind": "openai", "base_url": "https://api.openai.com/v1"})
    await keys.ok("POST", "/v1/providers/openai/credentials", {"secret": "fixture-secret"})
    await keys.ok("PUT", "/v1/prices/openai/gpt-4o", {"input_per_mtok": "9", "output_per_mtok": "9"})
    return ids


async def entries(keys: Keys) -> dict[str, dict[str, bytes | None]]:
    """All entries of all buckets that keys writes."""
    found = {}
    for name in (subjects.DIRECTORY_BUCKET, subjects.PROVIDERS_BUCKET, subjects.PRICES_BUCKET, subjects.TOKENS_BUCKET):
        found[name] = {entry.key: entry.value for entry in await Bucket(keys.bus.nats_py, keys.log, name).entries()}
    return found


async def test_a_restart_changes_nothing(home: Home) -> None:
    async with home.keys() as keys:
        await fill(keys)
        before, shown = await everything(keys), await entries(keys)
        ends = [await keys.log.end(subjects.log_stream(partition)) for partition in range(4)]
        platform = await keys.log.end(subjects.PLATFORM_STREAM)
    async with home.keys() as keys:
        assert await everything(keys) == before
        assert await entries(keys) == shown
        assert [await keys.log.end(subjects.log_stream(partition)) for partition in range(4)] == ends
        assert await keys.log.end(subjects.PLATFORM_STREAM) == platform


async def test_a_crash_between_append_and_projection_heals(home: Home) -> None:
    """A kill at that moment leaves an event in the log that the directory does not show: here it is made by hand."""
    async with home.keys() as keys:
        ids = await fill(keys)
        tenant = await keys.ok("GET", "/v1/tenants/acme")
        connection = await bus.connect(home.settings())
    log = JetStreamLog(connection.nats)
    shown = Bucket(connection.nats_py, log, subjects.DIRECTORY_BUCKET)
    revision = {ids[1]: 3, ids[2]: 2}
    revoked = [
        KeyRevoked(
            key_id=KeyId(id_), tenant=TenantId("acme"), reason=None, revision=at, secret_version=None, by=TokenId("t")
        )
        for id_, at in revision.items()
    ]
    data = frame.encode(
        Recorded(f"key:{event.key_id}.{event.revision}", "keys", datetime.now(UTC), event) for event in revoked
    )
    await append_tick(log, tenant["partition"], data)
    for id_ in revision:
        entry = await shown.get(id_)
        assert entry is not None
        assert b'"active"' in (entry.value or b"")
    await connection.close()
    async with home.keys() as keys:
        for id_, at in revision.items():
            entry = await keys.entry(subjects.DIRECTORY_BUCKET, id_, KeyEntry)
            assert (entry.status, entry.revision) == ("revoked", at)
            assert (await keys.ok("GET", f"/v1/tenants/acme/keys/{id_}"))["status"] == "revoked"


@pytest.mark.parametrize("unreadable", [b"not an entry", b'{"key_id": "\xff"}', b'{"x": ' + b"[" * 2_000])
async def test_entries_only_move_forward(home: Home, unreadable: bytes) -> None:
    async with home.keys() as keys:
        ids = await fill(keys)
        directory = Bucket(keys.bus.nats_py, keys.log, subjects.DIRECTORY_BUCKET)
        ours = await keys.entry(subjects.DIRECTORY_BUCKET, ids[1], KeyEntry)
        newer = KeyEntry(**{**{f: getattr(ours, f) for f in ours.__struct_fields__}, "revision": ours.revision + 5})
        await directory.put(ids[1], encode(newer))
        await keys.ok("PATCH", f"/v1/tenants/acme/keys/{ids[1]}", {"name": "late"})
        assert await keys.entry(subjects.DIRECTORY_BUCKET, ids[1], KeyEntry) == newer
        await directory.put(ids[2], unreadable)
        await directory.delete(ids[0])
    async with home.keys() as keys:
        assert await keys.entry(subjects.DIRECTORY_BUCKET, ids[1], KeyEntry) == newer
        assert (await keys.entry(subjects.DIRECTORY_BUCKET, ids[2], KeyEntry)).status == "active"
        assert (await keys.entry(subjects.DIRECTORY_BUCKET, ids[0], KeyEntry)).status == "revoked"


async def test_fences_of_owners_hold_up_no_command(home: Home) -> None:
    async with home.keys() as keys:
        tenant = await keys.ok("POST", "/v1/tenants", {"id": "acme", "name": "Acme"})
        partition = tenant["partition"]

        async def fence() -> None:
            for epoch in range(1, ROUNDS_MAX):  # as many as a command may lose to, each in a round of its own
                event = PartitionFenced(partition=partition, epoch=epoch, owner=OwnerId("budget-0"))
                data = frame.encode([Recorded(f"p{partition}.{epoch}", "budget/budget-0", datetime.now(UTC), event)])
                await append_tick(keys.log, partition, data)

        fencing = asyncio.create_task(fence())
        made = await asyncio.gather(
            *(keys.ok("POST", "/v1/tenants/acme/keys", {"name": f"k{n}"}) for n in range(20)),
            *(keys.ok("PATCH", "/v1/tenants/acme", {"name": f"n{n}"}) for n in range(20)),
        )
        await fencing
        assert len({one["id"] for one in made[:20]}) == 20
        assert max(one["revision"] for one in made[20:]) == 21


async def until(keys: Keys, method: str, path: str, status: int, body: Any = None) -> None:
    """Ask again until the answer has this status."""
    async with asyncio.timeout(60):
        while (await keys.http.request(method, path, json=body)).status_code != status:  # noqa: ASYNC110  # over HTTP
            await asyncio.sleep(0.02)


@asynccontextmanager
async def two(home: Home) -> AsyncIterator[tuple[Keys, Keys]]:
    async with home.keys() as one, home.keys() as other:
        yield one, other


async def test_two_services_at_once_keep_every_rule(home: Home) -> None:
    async with two(home) as (one, other):
        await one.ok("POST", "/v1/tenants", {"id": "small", "name": "x", "plan": "free"})
        await until(other, "GET", "/v1/tenants/small", 200)
        answers = await asyncio.gather(
            *(keys.http.post("/v1/tenants/small/keys", json={"name": "k"}) for _ in range(8) for keys in (one, other))
        )
        assert sorted(answer.status_code for answer in answers) == [201] * 3 + [403] * 13
        shown = await other.ok("GET", "/v1/tenants/small/keys")
        for key in shown["keys"]:
            assert (await one.entry(subjects.DIRECTORY_BUCKET, key["id"], KeyEntry)).status == "active"


async def admins(keys: Keys) -> set[str]:
    """The ids of the admins' tokens that are not revoked, as this service sees them."""
    every = (await keys.ok("GET", "/v1/operators"))["operators"]
    return {one["id"] for one in every if one["status"] == "active"}


async def test_two_admins_who_revoke_each_other_at_two_services_leave_one(home: Home) -> None:
    async with two(home) as (one, other):
        (mine,) = await admins(one)
        for _ in range(10):
            made = await one.ok("POST", "/v1/operators", {})
            async with asyncio.timeout(60):
                while len(await admins(other)) < 2:  # noqa: ASYNC110  # the other's fold follows
                    await asyncio.sleep(0.005)
            theirs = {"authorization": f"Bearer {made['token']}"}
            answers = await asyncio.gather(
                one.http.post(f"/v1/operators/{made['id']}/revoke"),
                other.http.post(f"/v1/operators/{mine}/revoke", headers=theirs),
            )
            statuses = sorted(answer.status_code for answer in answers)
            assert statuses in ([200, 401], [200, 409]), [answer.text for answer in answers]
            if answers[1].status_code == 200:  # it is the other that is left
                mine = made["id"]
                one.http.headers.update(theirs)
                other.http.headers.update(theirs)
            assert await admins(one if answers[0].status_code == 200 else other) == {mine}


async def test_a_revoked_first_token_does_not_come_back_with_a_restart(home: Home) -> None:
    async with home.keys() as keys:
        made = await keys.ok("POST", "/v1/operators", {})
        operators = (await keys.ok("GET", "/v1/operators"))["operators"]
        (first,) = [one["id"] for one in operators if one["id"] != made["id"]]
        await keys.ok("POST", f"/v1/operators/{first}/revoke", status=200)
    async with home.keys() as keys:
        assert await keys.wrong("GET", "/v1/operators") == (401, "token_revoked", None)
        keys.http.headers["authorization"] = f"Bearer {made['token']}"
        assert len((await keys.ok("GET", "/v1/operators"))["operators"]) == 2


async def test_a_large_price_list_is_taken_in_within_a_second(home: Home) -> None:
    async with home.keys() as keys:
        began = asyncio.get_running_loop().time()
        body = {"id": "openrouter", "kind": "openrouter", "base_url": "https://openrouter.ai/api/v1"}
        await keys.ok("POST", "/v1/providers", body)
        took_s = asyncio.get_running_loop().time() - began
        book = await keys.entry(subjects.PRICES_BUCKET, "openrouter", PriceBook)
        assert len(book.models) > 500
        assert within(took_s, 2.5)


async def test_the_log_away_is_said_and_comes_back(home: Home) -> None:
    async with home.keys() as keys:
        await keys.ok("POST", "/v1/tenants", {"id": "acme", "name": "Acme"})
        home.node.kill()
        refused = await keys.http.post("/v1/tenants/acme/keys", json={"name": "k"})
        assert refused.status_code == 503
        assert (await keys.http.get("/healthz")).status_code == 200
        home.node.start()
        await until(keys, "POST", "/v1/tenants/acme/keys", 201, {"name": "k"})
