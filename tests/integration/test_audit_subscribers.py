"""A FastStream subscriber, connected as `tail`, receives every sealed record of a real audit, over its kill as well."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from keyforge.audit.subscribing import broker
from keyforge.chain.seal import key_chain
from keyforge.chain.verify import Stored, Verifier
from keyforge.contracts import members, subjects
from keyforge.contracts.sealed import RecordSealed
from keyforge.testkit.nats_client import until
from keyforge.testkit.nats_server import NatsNode
from tests.integration.audit_stack import Audit, audit_on, server_with_users
from tests.unit import audit_facts as facts
from tests.unit.audit_facts import KEY, MASTER, TENANT

CHAIN = key_chain(TENANT, KEY)
SUBJECT = subjects.audit_keys(TENANT)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsNode]:
    with server_with_users(tmp_path / "nats") as node:
        yield node


@asynccontextmanager
async def received(server: NatsNode, *, after: int = 0) -> AsyncIterator[list[RecordSealed]]:
    """What a subscriber receives, as it comes."""
    found: list[RecordSealed] = []

    async def handle(records: list[RecordSealed]) -> None:
        found.extend(records)

    subscriber = broker(
        server.url, handle, name="test", subject=SUBJECT, after=after, user=members.TAIL, password="fixture-tail"
    )
    async with subscriber:
        await subscriber.start()
        yield found


async def test_a_subscriber_receives_each_record_over_a_kill(server: NatsNode, tmp_path: Path) -> None:
    async with audit_on(server, tmp_path / "audit", users=True) as audit, received(server) as records:
        audit.start()
        await audit.append(facts.begun())
        await audit.ready()
        count = 1
        for turn in range(3):
            for number in range(turn * 20, turn * 20 + 20):
                await audit.append(facts.adm(facts.admitted(number)), facts.use(facts.completed(number)))
            count += 40
            if turn:
                audit.kill()
                audit.start()
            await until(lambda wanted=count: _has(records, wanted), within_s=60)  # type: ignore[misc]
        await _whole(audit, records, count)


async def _has(records: list[RecordSealed], count: int) -> bool:
    await asyncio.sleep(0)
    return len({one.data.seq for one in records}) >= count


async def _whole(audit: Audit, records: list[RecordSealed], count: int) -> None:
    """None was skipped when it first came, and what was received is the chain, to the byte."""
    once = {one.data.seq: one.data for one in records}
    assert list(once) == list(range(1, count + 1))
    verifier = Verifier(CHAIN, lambda _: MASTER)
    stored = [
        Stored(bytes.fromhex(one.header), bytes.fromhex(one.hash), bytes.fromhex(one.mac), bytes(one.body))
        for one in once.values()
    ]
    assert str(verifier.check(stored)) == f"VALID to seq {count}"
    entry = subjects.bucket_subject(subjects.AUDIT_POSITION_BUCKET, subjects.audit_position_key(0))
    end = await audit.log.end(subjects.log_stream(0))

    async def noted() -> bool:
        found = await audit.log.last(subjects.bucket_stream(subjects.AUDIT_POSITION_BUCKET), entry)
        return found is not None and msgspec.json.decode(found.data)["sequence"] == end

    await until(noted)
    kept = (await audit.get(f"/v1/tenants/{TENANT}/keys/{KEY}/records", limit=1000))["records"]
    assert [one["hash"] for one in kept] == [one.hash for one in once.values()]
