"""Edits that are made to hold up others: floods of rows, rows that mislead the publisher, tables that are dropped."""

from collections.abc import Sequence

import pytest

from keyforge.audit.application import checking, rebuild
from keyforge.audit.outbound import stored_tail
from keyforge.contracts import subjects
from keyforge.testkit.nats_client import until as polled
from tests.integration.audit_attacks import (
    CHAIN,
    OTHER_CHAIN,
    attacked,
    delete,
    edit,
    seldom,
    told,
    update,
)
from tests.integration.audit_engine import append, log_of, new_database, projecting, store_on
from tests.integration.audit_publishing import is_at, position, published, publishing
from tests.integration.test_audit_answers import asking
from tests.integration.test_audit_attacks import MESSAGES, OTHER_VERIFY, SOON_S, made_up, made_up_requests, of_other
from tests.integration.test_audit_evidence import COLUMNS, HEAD, LAST, VERIFY, stands_alone
from tests.integration.test_audit_projection import caught_up, rebuilt, until
from tests.integration.test_audit_rebuild import CURRENT, HeldStore, tables_of
from tests.unit import audit_facts as facts

# --- very many, and what was mended -----------------------------------------------------------------------------------


async def test_very_many_made_up_chains_hold_up_nobody_and_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "CHECK_EVERY_S", SOON_S)
    many, most = 3000, checking.MADE_UP_MAX
    async with attacked(MESSAGES, running=True) as attack:
        for of in ("acme", "nobody"):
            source = f"(SELECT {COLUMNS}, number FROM {LAST} AS one CROSS JOIN numbers({many}) AS more)"
            change = f"concat('key/{of}/m', toString(number)) AS chain"
            edit(attack.store, made_up(change, source).replace("SELECT *", "SELECT * EXCEPT number"))
            edit(attack.store, made_up_requests(f"'{of}' AS tenant, concat('m', request_id) AS key_id"))
        await until(lambda: attack.projection.left_out() == 2 * (many - most), "counted")
        await until(lambda: 2 * most < len(attack.projection.disagreements()), "found")
        assert (await told(attack.client, "/v1/spend", tenant="acme"))[:2] == (503, "evidence_disagrees")
        last = f"/v1/tenants/acme/keys/m{many - 1}/records"
        assert (await told(attack.client, last))[:2] == (503, "evidence_disagrees"), "also one that is only counted"
        await stands_alone(attack)
        edit(
            attack.store,
            delete("records", "chain LIKE 'key/%/m%'"),
            delete("requests", "key_id LIKE 'm%'"),
        )
        await until(lambda: not attack.projection.disagreements() and not attack.projection.left_out(), "gone")
        assert (await told(attack.client, "/v1/spend"))[0] == 200


async def test_what_was_mended_is_forgotten_also_after_many_that_were_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "CHECK_EVERY_S", SOON_S)
    monkeypatch.setattr(checking, "PLACED_MAX", 1)
    altered = "body = concat(body, ' ')"
    async with attacked(MESSAGES, running=True) as attack:
        edit(attack.store, update("records", altered, "seq = 1"))
        chains = ("acme", "globex")
        for path in [f"/v1/tenants/{tenant}/verify" for tenant in chains] + [VERIFY, OTHER_VERIFY]:
            assert not (await told(attack.client, path))[2]["valid"]
        mended = "body = substring(body, 1, length(body) - 1)"
        edit(attack.store, update("records", mended, f"seq = 1 AND chain = '{OTHER_CHAIN}'"))
        await until(lambda: len(attack.projection.disagreements()) == 3, "one is forgotten")
        await stands_alone(attack)


# --- subscribers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "edits",
    seldom([
        pytest.param([made_up("4000000000 AS sequence, 'x' AS body")], id="a forged record far beyond the log"),
        pytest.param([made_up("4000000000 AS sequence")], id="a copy far beyond the log"),
        pytest.param([made_up("'evil' AS tenant, 4000000000 AS sequence",
                              f"(SELECT {COLUMNS} FROM records WHERE chain LIKE 'partition/%')")], id="no tenant's"),
        pytest.param([update("records", "partition = 0, sequence = 4000000000, tenant = 'evil'",
                             "chain = 'platform'")], id="the platform's"),
        pytest.param([made_up("'x' AS body, 0 AS frame_index",
                              f"(SELECT {COLUMNS} FROM records WHERE sequence > 40)")], id="forged beside the real"),
    ], but=("a copy far beyond the log", "forged beside the real")),
)  # fmt: skip
async def test_rows_that_lie_keep_no_record_from_subscribers(
    edits: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_tail, "PAGE_RECORDS", 10)
    operators = facts.sent(subjects.PLATFORM_CTL, facts.price_set())
    log, database = await log_of(facts.ctl(facts.fenced()), operators, *MESSAGES), new_database()
    async with projecting(log, store_on(database)) as projection:
        await caught_up(projection, log)
    store = store_on(database)
    edit(store, *edits)
    end = await log.end("KF_LOG_0")
    async with publishing(log, store) as projection:
        await polled(lambda: is_at(log, end))
        await append(log, of_other(900, 1))
        await polled(lambda: is_at(log, end + 2))
        assert not projection.failed.done()
        assert projection.publish_failure == ""
    assert await position(log) == end + 2
    assert await published(log, CHAIN) == list(range(1, HEAD + 1))
    assert await published(log, OTHER_CHAIN) == list(range(1, HEAD + 3))


# --- tables that are gone ---------------------------------------------------------------------------------------------


async def test_a_rebuild_whose_tables_are_dropped_fails_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuild, "PATIENCE_S", 0.5)
    log, store = await log_of(*MESSAGES), store_on(new_database(), HeldStore)
    assert isinstance(store, HeldStore)
    async with projecting(log, store) as projection, asking(store, projection) as client:
        await caught_up(projection, log)
        assert await projection.rebuild() is None
        await until(store.reached.is_set, "building")
        edit(store, "DROP TABLE records_beside SYNC")
        store.go.set()
        await until(lambda: not projection.rebuilding.running, "ended")
        assert projection.rebuilding.state == "failed"
        assert "has not taken a block" in projection.rebuilding.error
        assert (await told(client, VERIFY))[2]["valid"]
        assert tables_of(store) == CURRENT
        assert (await rebuilt(projection)).identical


async def test_a_table_that_is_dropped_is_said_and_a_rebuild_makes_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "CHECK_EVERY_S", SOON_S)
    async with attacked(MESSAGES, running=True) as attack:
        edit(attack.store, "DROP TABLE records SYNC")
        await until(lambda: not attack.projection.store_healthy, "it is not ready")
        assert (await told(attack.client, VERIFY))[:2] == (503, "store_unavailable")
        await append(attack.log, of_other(700, 1))
        result = await rebuilt(attack.projection)
        assert (result.state, result.identical, result.differences[0].why) == ("done", False, "missing")
        await caught_up(attack.projection, attack.log)
        await until(lambda: attack.projection.store_healthy, "ready")
        assert (await told(attack.client, OTHER_VERIFY))[2]["valid"]


@pytest.mark.parametrize(
    "comment",
    ["nonsense", '{"tables":{"records":"00000000-0000-0000-0000-000000000000"},"keep":""}', '{"tables":{},"keep":"x"}'],
)
async def test_a_made_up_marker_of_a_swap_keeps_nothing_closed(comment: str) -> None:
    marker = f"CREATE TABLE rebuild_swap (nothing UInt8) ENGINE = Memory COMMENT '{comment}'"
    async with attacked(MESSAGES, marker, running=False) as attack:
        assert (await told(attack.client, VERIFY))[2]["valid"]
        assert tables_of(attack.store) == CURRENT
        edit(attack.store, marker)
        assert (await rebuilt(attack.projection)).identical
        assert tables_of(attack.store) == CURRENT


@pytest.mark.parametrize(
    ("table", "instead"),
    [
        pytest.param("records", "CREATE VIEW records AS SELECT * FROM hidden WHERE seq < 5", id="a view"),
        pytest.param("requests", "CREATE TABLE requests ENGINE = Memory AS SELECT * FROM hidden", id="another engine"),
    ],
)
async def test_a_table_of_another_kind_is_named_and_a_rebuild_makes_it_again(table: str, instead: str) -> None:
    log, database = await log_of(*MESSAGES), new_database()
    async with projecting(log, store_on(database)) as projection:
        await caught_up(projection, log)
    store = store_on(database)
    edit(store, f"RENAME TABLE {table} TO hidden", instead)
    async with projecting(log, store) as projection, asking(store, projection) as client:
        await until(lambda: projection.state == "halted", "halted")
        assert f"table {table} is of the engine" in projection.halt_reason
        assert (await rebuilt(projection)).identical is None
        await caught_up(projection, log)
        assert (await told(client, VERIFY))[2]["valid"]
