"""What the operators' API answers while the projection lags: no false zero, and no false alarm."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import Request
from prometheus_client import CollectorRegistry

from keyforge.audit.application.chains import Chains
from keyforge.audit.application.freshness import wait_until_stored
from keyforge.audit.application.ports import Spent
from keyforge.audit.application.projection import Projection
from keyforge.audit.application.spending import Spending
from keyforge.audit.errors import StoreError
from keyforge.audit.inbound import api
from keyforge.audit.outbound import schema
from keyforge.audit.outbound.store import Store
from keyforge.contracts.ids import TokenId
from keyforge.eventlog.log import LogMissing
from keyforge.eventlog.memory import MemoryLog
from keyforge.runtime import http
from keyforge.runtime.tokens import Operator
from tests.integration.audit_engine import append, log_of, new_database, projecting, store_on
from tests.integration.test_audit_projection import (
    CHAIN,
    UNTIL_S,
    FaultyStore,
    assert_equals_fold,
    caught_up,
    delete,
    history,
    rebuilt,
    until,
)
from tests.unit import audit_facts as facts
from tests.unit.audit_facts import KEY, MASTER

PATHS = (f"/v1/tenants/acme/keys/{KEY}/records", f"/v1/tenants/acme/keys/{KEY}/verify", "/v1/spend")


class Healthy:
    """A service that is healthy."""

    def checks(self) -> dict[str, bool]:
        return {}


@asynccontextmanager
async def asking(store: Store, projection: Projection) -> AsyncIterator[httpx.AsyncClient]:
    """The operators' API, asked by somebody who may."""

    async def anybody(_request: Request) -> Operator:
        return Operator(TokenId("op"), "platform-admin")

    app = http.new_app("audit", Healthy(), CollectorRegistry())
    chains, spending = Chains(store, projection, MASTER), Spending(store, projection)
    api.add_routes(app, chains, spending, projection, reader=anybody, admin=anybody)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://audit") as client:
        yield client


class RebuiltStore(Store):
    """A store that halts where a rebuild has created its tables again, and nothing is in them yet."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.emptied = threading.Event()
        self.go = threading.Event()
        self.reading = threading.Event()
        self.slow = False

    def drop(self) -> None:
        super().drop()
        super().create()
        self.emptied.set()
        assert self.go.wait(UNTIL_S)

    def spend(self, *args: Any) -> list[Spent]:
        if self.slow:
            self.reading.set()
            assert self.emptied.wait(UNTIL_S)
        return super().spend(*args)


async def test_nobody_is_answered_from_tables_that_a_rebuild_emptied() -> None:
    log, store = await log_of(facts.begun(), *history()), store_on(new_database(), RebuiltStore)
    assert isinstance(store, RebuiltStore)
    async with projecting(log, store) as projection, asking(store, projection) as client:
        await caught_up(projection, log)
        store.slow = True
        asked_before = asyncio.ensure_future(client.get("/v1/spend"))
        await until(store.reading.is_set, "spend is asked of the store")
        assert await projection.rebuild()
        await until(store.emptied.is_set, "the tables are empty")
        store.slow = False
        answers = [await asked_before, *[await client.get(path) for path in PATHS]]
        store.go.set()
        assert [(answer.status_code, answer.json().get("error", {}).get("type")) for answer in answers] == [
            (503, "store_unavailable")
        ] * 4
        await until(lambda: projection.rebuilding.state == "done", "rebuilt")
        assert (await client.get("/v1/spend")).json()["total"]["requests"] == 12


async def test_a_record_that_is_stored_and_not_yet_confirmed_is_no_alarm() -> None:
    log, store = await log_of(facts.begun(), *history(count=3)), store_on(new_database(), FaultyStore)
    assert isinstance(store, FaultyStore)
    store.faults = []
    async with projecting(log, store) as projection, asking(store, projection) as client:
        await caught_up(projection, log)
        store.faults = [(schema.RECORDS, "after")]
        await append(log, history(100, 1))
        await until(lambda: projection.writer is not None and not projection.writer.healthy, "the answer is lost")
        verdict = (await client.get(PATHS[1], params={"wait_s": 0})).json()
        assert projection.writer is not None
        assert not projection.writer.healthy, "too late to see"
        assert verdict["valid"], verdict
        await caught_up(projection, log)


async def test_what_is_stored_after_the_end_of_the_fold_is_an_alarm() -> None:
    log, store = await log_of(facts.begun(), *history(count=3)), store_on(new_database())
    async with projecting(log, store) as projection, asking(store, projection) as client:
        await caught_up(projection, log)
        head = projection.stored_head(CHAIN)
        assert head is not None
        with store._client() as engine:
            engine.command(
                "INSERT INTO records (chain, tenant, key_id, seq, header, hash, mac, body)"
                f" SELECT chain, tenant, key_id, {head[0] + 1}, header, hash, mac, body"
                f" FROM records WHERE chain = '{CHAIN}' AND seq = {head[0]}"
            )
        verdict = (await client.get(PATHS[1])).json()
        assert (verdict["valid"], verdict["seq"]) == (False, head[0] + 1)


async def test_what_a_halted_projection_does_not_store_is_counted() -> None:
    messages = [facts.begun(), *history()]
    log, database = await log_of(*messages), new_database()
    async with projecting(log, store_on(database)) as projection:
        await caught_up(projection, log)
    store = store_on(database)
    await delete(store, f"chain = '{CHAIN}' AND seq = 7")
    async with projecting(log, store) as projection:
        await until(lambda: projection.state == "halted", "halted")
        before = await wait_until_stored(projection, 1)
        await append(log, history(100, 2))
        assert await wait_until_stored(projection, 1) == before + len(history(100, 2))


class ForgetfulStore(Store):
    """A store whose tables are dropped for a rebuild, and which fails then, once."""

    failed = False

    def drop(self) -> None:
        super().drop()
        if not self.failed:
            self.failed = True
            raise StoreError("the connection broke")


async def test_a_rebuild_that_had_to_begin_again_compares_with_what_was_stored_before() -> None:
    messages = [facts.begun(), *history()]
    log, database = await log_of(*messages), new_database()
    async with projecting(log, store_on(database)) as projection:
        await caught_up(projection, log)
    store = store_on(database, ForgetfulStore)
    await delete(store, f"chain = '{CHAIN}' AND seq = 7")
    async with projecting(log, store) as projection:
        await until(lambda: projection.state == "halted", "halted")
        found = await rebuilt(projection)
        assert (found.state, found.identical) == ("done", False)
        assert_equals_fold(store, messages)


async def test_tables_of_another_version_are_created_again_and_called_neither_identical_nor_not() -> None:
    messages = [facts.begun(), *history()]
    log, database = await log_of(*messages), new_database()
    async with projecting(log, store_on(database)) as projection:
        await caught_up(projection, log)
    store = store_on(database)
    with store._client() as engine:
        engine.command("ALTER TABLE records ADD COLUMN later UInt8")
    async with projecting(log, store) as projection:
        await until(lambda: projection.state == "halted", "halted")
        found = await rebuilt(projection)
        assert (found.state, found.identical) == ("done", None)
        assert_equals_fold(store, messages)


class LostLog(MemoryLog):
    """A log whose end nobody knows, as often as `lost` says."""

    lost = 0

    async def end(self, stream: str) -> int:
        if self.lost:
            self.lost -= 1
            raise LogMissing(f"nobody answers for {stream}")
        return await super().end(stream)


async def test_a_rebuild_waits_for_a_log_that_nobody_answers_for() -> None:
    log, store = LostLog.of_partitions(1, clock=lambda: facts.NOW), store_on(new_database(), RebuiltStore)
    assert isinstance(log, LostLog)
    assert isinstance(store, RebuiltStore)
    await append(log, messages := [facts.begun(), *history()])
    async with projecting(log, store) as projection:
        await caught_up(projection, log)
        assert await projection.rebuild()
        await until(store.emptied.is_set, "the tables are empty")
        log.lost = 10
        store.go.set()
        await until(lambda: projection.failed.done() or projection.rebuilding.state != "running", "rebuilt")
        assert not projection.failed.done(), projection.failed.exception()
        assert projection.rebuilding.identical
        assert_equals_fold(store, messages)


@pytest.mark.parametrize("name", ["from", "to"])
@pytest.mark.parametrize(
    ("time", "before_all"),
    [
        ("0001-01-01T00:00:00Z", True),
        ("0999-12-31T23:59:59Z", True),
        ("0001-01-01T00:00:00+05:00", True),
        ("9999-12-31T23:59:59.999999Z", False),
        ("9999-12-31T23:59:59-05:00", False),
    ],
)
async def test_any_time_bounds_spend(name: str, time: str, before_all: bool) -> None:
    log, store = await log_of(facts.begun(), *history()), store_on(new_database())
    async with projecting(log, store) as projection, asking(store, projection) as client:
        await caught_up(projection, log)
        answer = await client.get("/v1/spend", params={name: time})
        assert answer.status_code == 200, answer.text
        assert answer.json()["total"]["requests"] == (12 if before_all == (name == "from") else 0)
