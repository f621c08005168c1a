"""Two keys services on one log: a tenant's id is one tenant's, wherever it is requested and which of them dies."""

import asyncio
import signal
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from keyforge.contracts import frame, subjects
from keyforge.contracts.events import TenantCreated, TenantPlaced
from keyforge.contracts.frame import Recorded
from keyforge.contracts.ids import TenantId, TokenId
from keyforge.eventlog.meta import declare
from keyforge.testkit.nats_client import open_client
from keyforge.testkit.nats_server import NatsNode
from keyforge.testkit.ticks import append_next
from tests.integration.keys_stack import PARTITIONS, Home, Keys
from tests.integration.test_keys_process import Process, declared, process

ROUNDS = 20
IDS = 6
KILLS = 3


@pytest.fixture
def home(nats_own: Callable[..., NatsNode]) -> Home:
    return Home(nats_own())


async def made(keys: Keys) -> list[tuple[str, int]]:
    """Every tenant that was ever made, and the partition whose log says so."""
    found: list[tuple[str, int]] = []
    for partition in range(PARTITIONS):
        end = await keys.log.end(subjects.log_stream(partition))
        if not end:
            continue
        async for messages in keys.log.read(subjects.log_stream(partition)):
            for message in messages:
                for recorded in frame.decode(message.data, message.subject):
                    if isinstance(recorded, Recorded) and isinstance(recorded.event, TenantCreated):
                        assert recorded.event.partition == partition
                        found.append((recorded.event.tenant, partition))
            if messages[-1].seq >= end:
                break
    return found


async def test_new_ids_asked_of_both_at_once_are_one_tenant_each(home: Home) -> None:
    """In opposite orders, so that each service sees other partitions filled when it comes to an id."""
    async with home.keys() as one, home.keys() as other:
        for round_ in range(ROUNDS):
            ids = [f"raced-{round_}-{number}" for number in range(IDS)]
            asks = [(one, id_) for id_ in ids] + [(other, id_) for id_ in reversed(ids)]
            answers = await asyncio.gather(
                *(keys.http.post("/v1/tenants", json={"id": id_, "name": "x"}) for keys, id_ in asks)
            )
            assert sorted(answer.status_code for answer in answers) == [201] * IDS + [409] * IDS
        tenants = await made(one)
    assert len(tenants) == len(dict(tenants)) == ROUNDS * IDS
    assert {partition for _, partition in tenants} == set(range(PARTITIONS))


async def _operators(home: Home) -> set[str]:
    async with home.keys() as keys:
        return {one["id"] for one in (await keys.ok("GET", "/v1/operators"))["operators"]}


async def _started(home: Home, other: Home) -> tuple[set[str] | BaseException, set[str] | BaseException]:
    async with open_client([home.node.url]) as client:
        await declare(client, made_with=home.made_with(), replicas=1)  # so that nothing keeps one behind the other
    return await asyncio.gather(_operators(home), _operators(other), return_exceptions=True)


async def test_two_that_start_on_a_new_log_both_run(home: Home) -> None:
    """Both find no operator and have the same first token to take in."""
    one, other = await _started(home, home)
    assert one == other
    assert isinstance(one, set)
    assert len(one) == 1


async def test_of_two_first_tokens_one_is_taken_in(home: Home) -> None:
    """Whose service was second has no say: there is an operator already."""
    answers = await _started(home, Home(home.node, home.decrypter))
    refused = [answer for answer in answers if isinstance(answer, AssertionError)]
    assert len(refused) == 1
    assert "token_invalid" in str(refused[0])


async def test_a_claim_without_a_tenant_is_finished_by_whoever_asks(home: Home) -> None:
    """A kill between claim and tenant leaves this in the log: here it is made by hand, while two services run."""
    async with home.keys() as one, home.keys() as other:
        claim = TenantPlaced(tenant=TenantId("acme"), partition=3, by=TokenId("t"))
        recorded = Recorded("placement:acme.1", "keys", datetime.now(UTC), claim)
        await append_next(one.log, subjects.PLATFORM_STREAM, subjects.PLATFORM_CTL, frame.encode([recorded]))
        for keys in (one, other):
            assert await keys.wrong("GET", "/v1/tenants/acme") == (404, "not_found", None)
        bad = {"id": "acme", "name": "x", "plan": "gold"}
        assert await one.wrong("POST", "/v1/tenants", bad) == (400, "request_invalid", "plan")
        answers = await asyncio.gather(
            *(keys.http.post("/v1/tenants", json={"id": "acme", "name": "x"}) for keys in (one, other))
        )
        assert sorted(answer.status_code for answer in answers) == [201, 409]
        assert await made(one) == [("acme", 3)]


async def test_what_is_refused_claims_no_id(home: Home) -> None:
    async with home.keys() as keys:
        before = await keys.log.end(subjects.PLATFORM_STREAM)
        assert (await keys.wrong("POST", "/v1/tenants", {"id": "a", "name": "x", "plan": "gold"}))[0] == 400
        assert await keys.log.end(subjects.PLATFORM_STREAM) == before


def test_kill_9_in_the_middle_of_it(home: Home, tmp_path: Path) -> None:
    """Both are asked for the same ids, one is killed; asked again, each id is a tenant, in one partition."""
    declared(home)
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    with process(home, tmp_path / "one") as one, process(home, tmp_path / "other") as other:
        other.start()
        for round_ in range(KILLS):
            one.start()
            ids = [f"r{round_}-{number}" for number in range(40)]
            asyncio.run(_race(one, other, ids))
            for id_ in ids:
                answer = other.client.post("/v1/tenants", json={"id": id_, "name": "x"})
                assert answer.status_code in (201, 409), answer.text
                assert other.client.get(f"/v1/tenants/{id_}").status_code == 200
        assert other.end(signal.SIGTERM) == 0

    async def all_made() -> list[tuple[str, int]]:
        async with home.keys() as keys:
            return await made(keys)

    counts = Counter(tenant for tenant, _ in asyncio.run(all_made()))
    assert len(counts) == KILLS * 40
    assert set(counts.values()) == {1}


async def _race(one: Process, other: Process, ids: list[str]) -> None:
    """Ask both for every id; kill the one as soon as something was made."""
    some = asyncio.Event()

    async def ask(client: httpx.AsyncClient, id_: str) -> None:
        try:
            answer = await client.post("/v1/tenants", json={"id": id_, "name": "x"})
        except httpx.TransportError:
            return
        assert answer.status_code in (201, 409), answer.text
        some.set()

    headers = dict(one.client.headers)
    async with (
        httpx.AsyncClient(base_url=one.url, headers=headers, timeout=60) as first,
        httpx.AsyncClient(base_url=other.url, headers=headers, timeout=60) as second,
        asyncio.TaskGroup() as group,
    ):
        for id_, other_id in zip(ids, reversed(ids), strict=True):
            group.create_task(ask(first, id_))
            group.create_task(ask(second, other_id))
        async with asyncio.timeout(60):
            await some.wait()
        await asyncio.to_thread(one.end, signal.SIGKILL)
