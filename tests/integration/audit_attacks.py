"""What somebody with access to ClickHouse may do to the tables, and what the operators' API answers then."""

from collections.abc import AsyncIterator, Container, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import httpx
import pytest

from keyforge.audit.application.projection import Projection
from keyforge.audit.outbound.store import Store
from keyforge.chain import record as rec
from keyforge.chain.seal import Mac, key_chain
from keyforge.eventlog.memory import MemoryLog
from tests.integration.audit_engine import append, log_of, new_database, projecting, store_on
from tests.integration.test_audit_answers import asking
from tests.integration.test_audit_projection import caught_up, history
from tests.unit import audit_facts as facts
from tests.unit.audit_facts import KEY, MASTER, Sent

CaseSet = Any
"""What `pytest.param` returns; pytest does not publish its type."""
OTHER_KEY = "Key000000002"
CHAIN = key_chain("acme", KEY)
OTHER_CHAIN = key_chain("globex", OTHER_KEY)


def seldom(cases: Iterable[CaseSet], *, but: Container[str]) -> list[CaseSet]:
    """Leave the cases of these names to every day; the others, some CPU seconds of the engine each, are slow."""
    return [one if one.id in but else pytest.param(*one.values, id=one.id, marks=pytest.mark.slow) for one in cases]


class Attacked(NamedTuple):
    """A projection whose tables were touched, or are about to be."""

    log: MemoryLog
    store: Store
    projection: Projection
    client: httpx.AsyncClient


def two_tenants(count: int = 12) -> list[Sent]:
    """Two tenants with a key each and the same requests."""
    messages = [
        facts.begun(),
        facts.ctl(facts.tenant_created("globex"), facts.key_created(OTHER_KEY, tenant="globex")),
    ]
    for number, message in enumerate(history(count=count)):
        messages.append(message)
        if number < count:
            other = 1000 + number
            messages.append(facts.adm(facts.admitted(other, key_id=OTHER_KEY, tenant="globex")))
            messages.append(facts.use(facts.completed(other, key_id=OTHER_KEY, tenant="globex")))
    return messages


@asynccontextmanager
async def attacked(messages: Sequence[Sent], *edits: str, running: bool) -> AsyncIterator[Attacked]:
    """A projection of these messages. `edits` are made while it runs, or between two starts."""
    log, database = await log_of(*messages), new_database()
    if not running:
        async with projecting(log, store_on(database)) as projection:
            await caught_up(projection, log)
    store = store_on(database)
    if not running:
        edit(store, *edits)
    async with projecting(log, store) as projection, asking(store, projection) as client:
        await caught_up(projection, log)
        if running:
            edit(store, *edits)
        yield Attacked(log, store, projection, client)


def edit(store: Store, *statements: str) -> None:
    """Change the tables from outside."""
    with store._client() as engine:
        for statement in statements:
            engine.command(statement)


def update(table: str, change: str, where: str) -> str:
    return f"ALTER TABLE {table} UPDATE {change} WHERE {where} SETTINGS mutations_sync = 2"


def delete(table: str, where: str) -> str:
    return f"ALTER TABLE {table} DELETE WHERE {where} SETTINGS mutations_sync = 2"


def row(store: Store, chain: str, seq: int) -> tuple[bytes, bytes]:
    """Header and body of a stored record."""
    found = store.records(chain, seq - 1, seq, 1)[0]
    return found.header, found.body or b""


def sealed_row(chain: str, header: bytes, body: bytes) -> str:
    """An INSERT of a record that is sealed with the right key, whatever it says."""
    hash_ = rec.record_hash(header)
    mac = Mac(MASTER.chain_key(rec.chain_id(chain))).of(hash_)
    _, tenant, key_id = chain.split("/")
    values = ", ".join(f"unhex('{value.hex()}')" for value in (header, hash_, mac, body))
    return (
        "INSERT INTO records (chain, tenant, key_id, header, hash, mac, body)"
        f" VALUES ('{chain}', '{tenant}', '{key_id}', {values})"
    )


def resealed(store: Store, chain: str, head: int, after: int) -> list[str]:
    """Every record of a chain after seq `after` is another one, each with the right hash, MAC and link."""
    rows = store.records(chain, 0, head, 2 * head)
    previous, inserts = rec.record_hash(rows[after - 1].header), list[str]()
    for stored in rows[after:]:
        header = changed_header(stored.header, previous=previous, time_ns=rec.unpack(stored.header).time_ns + 1000)
        previous = rec.record_hash(header)
        inserts.append(sealed_row(chain, header, stored.body or b""))
    return [delete("records", f"chain = '{chain}' AND seq > {after}"), *inserts]


def changed_header(header: bytes, **changed: Any) -> bytes:
    """A header with other fields."""
    return rec.HEADER.pack(*rec.unpack(header)._replace(**changed))


async def told(client: httpx.AsyncClient, path: str, **parameters: Any) -> tuple[int, str, Any]:
    """Status, error type and JSON of an answer."""
    answer = await client.get(path, params=parameters)
    found = answer.json()
    error = found.get("error")
    return answer.status_code, error["type"] if isinstance(error, dict) else "", found


async def more(attack: Attacked, number: int) -> None:
    """Both tenants are served on."""
    await append(
        attack.log,
        [
            facts.adm(facts.admitted(number)),
            facts.use(facts.completed(number)),
            facts.adm(facts.admitted(number + 1, key_id=OTHER_KEY, tenant="globex")),
            facts.use(facts.completed(number + 1, key_id=OTHER_KEY, tenant="globex")),
        ],
    )
    await caught_up(attack.projection, attack.log)
