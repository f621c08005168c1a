"""What the operators' API answers while the projection lags: no false zero, and no false alarm."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from fastapi import Request
from prometheus_client import CollectorRegistry

from keyforge.audit import app as audit
from keyforge.audit.application.chains import Chains
from keyforge.audit.application.projection import Projection
from keyforge.audit.application.spending import Spending
from keyforge.audit.core.sealed import Head
from keyforge.audit.errors import StoreError
from keyforge.audit.inbound import api
from keyforge.audit.metrics import Metrics
from keyforge.audit.outbound import schema
from keyforge.audit.outbound.store import Store
from keyforge.contracts.ids import TokenId
from keyforge.runtime import http
from keyforge.runtime.clock import SetClock
from keyforge.runtime.tokens import Operator
from tests.integration.audit_engine import (
    append,
    build_of,
    head_of,
    log_of,
    new_database,
    projecting,
    store_on,
)
from tests.integration.test_audit_projection import (
    CHAIN,
    UNTIL_S,
    FaultyStore,
    SlowStore,
    caught_up,
    history,
    rows,
    until,
)
from tests.unit import audit_facts as facts
from tests.unit.audit_facts import KEY

PATHS = (f"/v1/tenants/acme/keys/{KEY}/records", f"/v1/tenants/acme/keys/{KEY}/verify", "/v1/spend")


class Healthy:
    """A service that is healthy."""

    def checks(self) -> dict[str, bool]:
        return {}

    def details(self) -> dict[str, Any]:
        return {}


@asynccontextmanager
async def asking(store: Store, projection: Projection) -> AsyncIterator[httpx.AsyncClient]:
    """The operators' API, asked by somebody who may."""

    async def anybody(_request: Request) -> Operator:
        return Operator(TokenId("op"), "platform-admin")

    app = http.new_app("audit", Healthy(), CollectorRegistry())
    chains, spending = Chains(projection, projection.examiner), Spending(store, projection)
    api.add_routes(app, chains, spending, projection, reader=anybody, admin=anybody)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://audit") as client:
        yield client


class UnsureStore(FaultyStore):
    """A store that does not tell whether a record is stored while `unsure`."""

    unsure = False

    def has_records(self, records: Sequence[tuple[str, Head]], tables_suffix: str = "") -> bool:
        if self.unsure:
            raise StoreError("the connection broke")
        return super().has_records(records, tables_suffix)


async def test_a_record_that_is_stored_and_not_yet_confirmed_is_no_alarm() -> None:
    log, store = await log_of(facts.begun(), *history(count=3)), store_on(new_database(), UnsureStore)
    assert isinstance(store, UnsureStore)
    store.faults = []
    async with projecting(log, store) as projection, asking(store, projection) as client:
        await caught_up(projection, log)
        head = head_of(projection, CHAIN)
        assert head is not None
        store.faults, store.unsure = [(schema.RECORDS, "after")], True
        await append(log, history(100, 1))
        await until(lambda: not build_of(projection).writer.healthy, "the answer is lost")
        page = (await client.get(PATHS[0], params={"wait_s": 0})).json()
        unsure = await client.get(PATHS[1], params={"wait_s": 0})
        assert not projection.disagreements()
        store.unsure = False
        assert (page["head_seq"], len(page["records"]), page["lag"] > 0) == (head[0], head[0], True)
        assert (unsure.status_code, unsure.json()["error"]["type"]) == (503, "not_stored_yet")
        await caught_up(projection, log)
        assert (await client.get(PATHS[1])).json()["valid"]


async def test_a_block_that_is_not_stored_holds_up_no_chain_of_another_log() -> None:
    """Each answer is there within its `wait_s`, though the writer holds a block that the store does not take."""
    log, store = await log_of(facts.begun(), *history(count=3), partitions=2), store_on(new_database(), SlowStore)
    assert isinstance(store, SlowStore)
    store.go.set()
    async with projecting(log, store, partitions=2) as projection, asking(store, projection) as client:
        await caught_up(projection, log)
        store.go.clear()
        store.asked.clear()
        await append(log, [facts.ctl(facts.fenced(partition=1), partition=1)])
        await until(store.asked.is_set, "an INSERT is on its way")
        async with asyncio.timeout(UNTIL_S / 2):
            verdict = (await client.get(PATHS[1], params={"wait_s": 1})).json()
            page = (await client.get(PATHS[0], params={"wait_s": 1})).json()
        store.go.set()
        assert (verdict["valid"], verdict["spend_agrees"], len(page["records"])) == (True, True, verdict["seq"])


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("/v1/spend?from=2031-01-01T00:00:00Z&to=2030-01-01T00:00:00Z", "query.to"),
        ("/v1/spend?by=,", "by: "),
        ("/v1/spend?by=tenant,", "by: "),
        ("/v1/spend?by=,tenant", "by: "),
        ("/v1/spend?wait_s=1_0", "query.wait_s"),
        (f"{PATHS[0]}?after=2&after_seq=5", "query.after_seq"),
        (f"{PATHS[0]}?after=0&after_seq=5", "query.after_seq"),
        (f"{PATHS[0]}?limit=1_0", "query.limit"),
        (f"{PATHS[0]}?after=1.0", "query.after"),
        ("/v1/spend?from=2030-01-01T00:00:00Z&to=2030-01-01T00:00:00Z&by=", ""),
        (f"{PATHS[0]}?after_seq=5&limit=10&wait_s=0.5", ""),
    ],
)
async def test_a_parameter_that_would_be_read_otherwise_is_refused_by_its_name(path: str, param: str) -> None:
    """Where all parameters are right, the answer is that nothing is open: nothing was started."""
    store = store_on("none")
    projection = audit.projection_of(
        await log_of(), store, facts.MASTER, partitions=1, linger_s=0, metrics=Metrics(), clock=SetClock(facts.NOW)
    )
    async with asking(store, projection) as client:
        answer = await client.get(path)
        wanted = (400, "request_invalid") if param else (503, "store_unavailable")
        error = answer.json()["error"]
        assert (answer.status_code, error["type"], error["param"] or "") == (*wanted, param), error


async def test_spend_is_of_the_hour_that_was_admitted_whatever_the_clock_showed() -> None:
    """A budget whose clock is wrong admits in any year; 32 bits of seconds hold 1970 to 2106."""
    years = (1, 1899, 1950, 2110, 2299, 9999)
    ends: list[facts.Sent] = []
    for number, year in enumerate(years, 1):
        at = facts.NOW.replace(year=year, month=6, day=1, hour=13, minute=59, second=59, microsecond=999_999)
        ends += [facts.adm(facts.admitted(number, at=at)), facts.use(facts.completed(number))]
    log, store = await log_of(facts.begun(), *ends), store_on(new_database())
    async with projecting(log, store) as projection, asking(store, projection) as client:
        await caught_up(projection, log)
        found = (await client.get("/v1/spend", params={"by": "day,hour"})).json()["rows"]
        assert [row["group"] for row in found] == [
            {"day": f"{year:04}-06-01T00:00:00Z", "hour": f"{year:04}-06-01T13:00:00Z"} for year in years
        ]
        for view, hour in (("spend_hourly", 13), ("spend_daily", 0)):
            periods = rows(store, f"SELECT period FROM {view} WHERE toYear(period) = 2110")
            assert [at.replace(tzinfo=UTC) for (at,) in periods] == [datetime(2110, 6, 1, hour, tzinfo=UTC)]


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
