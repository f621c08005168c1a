"""Tables that are edited while a rebuild builds, compares and exchanges them; answers that are lost; a second audit."""

import asyncio
from typing import Any

import pytest

from keyforge.audit.application import rebuild
from keyforge.audit.application.projection import Projection
from keyforge.audit.errors import StoreError
from keyforge.audit.outbound.built import Built
from keyforge.audit.outbound.clients import Clients
from keyforge.audit.outbound.comparison import Comparison
from keyforge.audit.outbound.tables import BESIDE, TableSets
from tests.integration.audit_attacks import changed_header, delete, edit, row, sealed_row, seldom, told, update
from tests.integration.audit_engine import log_of, new_database, projecting, store_on
from tests.integration.test_audit_answers import asking
from tests.integration.test_audit_projection import CHAIN, assert_equals_fold, caught_up, rebuilt, rows, until
from tests.integration.test_audit_rebuild import CURRENT, MESSAGES, HeldStore, tables_of
from tests.integration.test_audit_rebuild_swap import _wrapped
from tests.unit.audit_facts import KEY

AT_4 = f"chain = '{CHAIN}' AND seq = 4"
RECORDS_EDITS = [
    pytest.param([("UPDATE", "body = concat(body, ' ')")], id="a body"),
    pytest.param([("UPDATE", "mac = reverse(mac)")], id="a MAC"),
    pytest.param([("UPDATE", "hash = reverse(hash)")], id="a hash"),
    pytest.param([("UPDATE", "header = reverse(header)")], id="a header"),
    pytest.param([("UPDATE", "settled_nusd = 1")], id="a column beside the header"),
    pytest.param([("UPDATE", "tenant = 'globex'")], id="a tenant"),
    pytest.param([("DELETE", "")], id="a row"),
]


def on(table: str, edits: list[tuple[str, str]]) -> list[str]:
    return [update(table, change, AT_4) if how == "UPDATE" else delete(table, AT_4) for how, change in edits]


def before(monkeypatch: pytest.MonkeyPatch, of: type[Any], method: str, edits: Any) -> None:
    """Call `edits` once before a method is called."""
    real, done = getattr(of, method), list[bool]()

    def edited(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not done:
            done.append(True)
            edits()
        return real(self, *args, **kwargs)

    monkeypatch.setattr(of, method, edited)


@pytest.mark.parametrize("edits", seldom(RECORDS_EDITS, but=("a body", "a column beside the header")))
@pytest.mark.parametrize("alike", [True, False], ids=["both sets alike", "the new set after the comparison"])
async def test_an_edit_during_a_rebuild_is_named(
    edits: list[tuple[str, str]], alike: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, store = await log_of(*MESSAGES), store_on(new_database())
    async with projecting(log, store) as projection, asking(store, projection) as client:
        await caught_up(projection, log)
        statements = on(f"records{BESIDE}", edits) + (on("records", edits) if alike else [])
        of: tuple[type[Any], str] = (Comparison, "records") if alike else (Built, "faults")
        before(monkeypatch, of[0], of[1], lambda: edit(store, *statements))
        found = await rebuilt(projection)
        assert (found.state, found.identical) == ("done", False), found.error
        assert [(one.table, one.log, one.chain, one.seq) for one in found.differences] == [
            ("records", "KF_LOG_0", CHAIN, 4)
        ]
        status = (await told(client, f"/v1/tenants/acme/keys/{KEY}/records"))[0]
        assert status == (200 if "= 1" in edits[0][1] or "tenant" in edits[0][1] else 503)  # no answer has those two
        assert (await rebuilt(projection)).identical is False  # it was exchanged; the old set is kept
        assert_equals_fold(store, MESSAGES)


@pytest.mark.parametrize(
    "alike",
    [True, pytest.param(False, marks=pytest.mark.slow)],
    ids=["both sets alike", "the new set after the comparison"],
)
async def test_macs_that_two_records_exchanged_are_named(alike: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """All MACs of the chain are there, and so is every hash."""
    log, store = await log_of(*MESSAGES), store_on(new_database())
    async with projecting(log, store) as projection:
        await caught_up(projection, log)
        both = f"chain = '{CHAIN}' AND seq IN (4, 5)"
        four, five = (mac for (mac,) in rows(store, f"SELECT hex(mac) FROM records WHERE {both} ORDER BY seq"))
        change = f"mac = unhex(if(seq = 4, '{five}', '{four}'))"
        swapped = [update(f"records{of}", change, both) for of in ((BESIDE, "") if alike else (BESIDE,))]
        of: tuple[type[Any], str] = (Comparison, "records") if alike else (Built, "faults")
        before(monkeypatch, *of, lambda: edit(store, *swapped))
        found = await rebuilt(projection)
        assert (found.identical, [(one.chain, one.seq) for one in found.differences]) == (False, [(CHAIN, 4)])


@pytest.mark.parametrize(
    ("change", "chain", "seq"),
    [
        pytest.param("surplus", CHAIN, None, id="a record after the end"),
        pytest.param("made up", "key/acme/Key000000077", 0, id="a chain that no log has"),
        pytest.param("repeated", "", None, id="a row that is stored twice is the same row"),
    ],
)
async def test_rows_that_are_added_to_both_sets(
    change: str, chain: str, seq: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, store = await log_of(*MESSAGES), store_on(new_database())
    async with projecting(log, store) as projection:
        await caught_up(projection, log)
        last = max(one[0] for one in rows(store, f"SELECT seq FROM records WHERE chain = '{CHAIN}'"))
        header, body = row(store, CHAIN, last)
        if change == "surplus":
            insert = sealed_row(CHAIN, changed_header(header, seq=last + 1), body)
        elif change == "made up":
            insert = sealed_row(chain, header, body)
        else:
            insert = f"INSERT INTO records SELECT * FROM records WHERE {AT_4}"
        both = [insert, insert.replace("INTO records", f"INTO records{BESIDE}")]
        before(monkeypatch, Comparison, "records", lambda: edit(store, *both))
        found = await rebuilt(projection)
        named = [(one.chain, one.seq) for one in found.differences]
        assert named == ([(chain, last + 1 if seq is None else last)] if chain else [])
        assert found.identical is not bool(chain)


@pytest.mark.parametrize("change", ["settled_nusd = settled_nusd * 10", "model = 'other'"])
async def test_spend_that_is_edited_in_both_sets_is_named(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    log, store = await log_of(*MESSAGES), store_on(new_database())
    async with projecting(log, store) as projection:
        await caught_up(projection, log)
        alike = [update(f"requests{of}", change, "1") for of in ("", BESIDE)]
        before(monkeypatch, Comparison, "requests", lambda: edit(store, *alike))
        found = await rebuilt(projection)
        assert (found.state, found.identical) == ("done", False)
        assert [(one.table, one.log, one.chain) for one in found.differences] == [("requests", "KF_LOG_0", CHAIN)]


# --- a swap whose answers are lost ------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["CREATE TABLE rebuild_swap", "EXCHANGE TABLES requests", "DROP TABLE requests_beside",
                                  "DROP TABLE rebuild_swap"])  # fmt: skip
async def test_a_step_of_the_swap_whose_answer_is_lost_is_done(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuild, "PATIENCE_S", 5.0)
    log, store = await log_of(*MESSAGES), store_on(new_database())
    async with projecting(log, store) as projection:
        await caught_up(projection, log)
        with monkeypatch.context() as patching:
            patching.setattr(Clients, "lend", losing(Clients.lend, step))
            found = await rebuilt(projection)
        assert (found.state, found.identical, found.error) == ("done", True, "")
        assert tables_of(store) == CURRENT
        assert_equals_fold(store, MESSAGES)


async def test_a_swap_that_is_given_up_half_way_loses_neither_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store answers nothing from the middle of the exchange on; the next opening finishes it."""
    log, store = await log_of(*MESSAGES), store_on(new_database())
    before(monkeypatch, Built, "faults", lambda: monkeypatch.setattr(rebuild, "PATIENCE_S", 0.0))
    async with projecting(log, store) as projection:
        await caught_up(projection, log)
        edit(store, update("requests", "settled_nusd = settled_nusd * 10", "1"))
        altered = rows(store, "SELECT * FROM requests FINAL ORDER BY ALL")
        with monkeypatch.context() as patching:
            patching.setattr(Clients, "lend", losing(Clients.lend, "EXCHANGE TABLES records"))
            found = await rebuilt(projection)
        assert found.state == "failed"
        assert found.error.endswith(rebuild.EXCHANGING)
        await until(lambda: projection.state == "following", "it follows again")
        (kept,) = await projection.kept()
        assert rows(store, f"SELECT * FROM requests_{kept.name} FINAL ORDER BY ALL") == altered
        assert_equals_fold(store, MESSAGES)


def losing(lend: Any, step: str) -> Any:
    """`lend` with clients whose answer to a statement is lost once."""
    lost: list[bool] = []

    class Losing:
        def __init__(self, client: Any) -> None:
            self._client = client

        def __getattr__(self, name: str) -> Any:
            return getattr(self._client, name)

        def command(self, statement: str, *args: Any, **kwargs: Any) -> Any:
            done = self._client.command(statement, *args, **kwargs)
            if statement.startswith(step) and not lost:
                lost.append(True)
                raise StoreError("the connection broke")
            return done

    def lending(self: Clients, **kwargs: Any) -> Any:
        return _wrapped(lend(self, **kwargs), Losing)

    return lending


# --- two audits -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rebuilds", [False, True], ids=["it starts", "it rebuilds"])
async def test_a_second_audit_ends_the_rebuild_of_the_first_at_once(rebuilds: bool) -> None:
    log, database = await log_of(*MESSAGES), new_database()
    store, other = store_on(database, HeldStore), store_on(database)
    assert isinstance(store, HeldStore)
    async with projecting(log, store) as projection:
        await caught_up(projection, log)
        assert await projection.rebuild() is None
        await until(store.reached.is_set, "building")
        async with projecting(log, other) as second:
            await caught_up(second, log)
            if rebuilds:
                assert (await rebuilt(second)).identical
            store.go.set()
            await _ended(projection)
        assert projection.rebuilding.state == "failed"
        assert "another audit started" in projection.rebuilding.error
        assert tables_of(other) == CURRENT
        assert_equals_fold(store, MESSAGES)
        assert (await rebuilt(projection)).identical


async def test_tables_that_another_rebuild_builds_are_neither_exchanged_nor_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The other one begins between the first one's examination and its swap."""
    log, database = await log_of(*MESSAGES), new_database()
    store = store_on(database)
    others = TableSets(store_on(database).clients)
    async with projecting(log, store) as projection:
        await caught_up(projection, log)
        before(monkeypatch, TableSets, "swap", others.create_beside)
        found = await rebuilt(projection)
        assert (found.state, "another audit" in found.error) == ("failed", True)
        assert found.error.count("may have begun") == 0
        assert_equals_fold(store, MESSAGES)
        await caught_up(projection, log)


async def _ended(projection: Projection) -> None:
    async with asyncio.timeout(30):
        await until(lambda: not projection.rebuilding.running, "it ends")
