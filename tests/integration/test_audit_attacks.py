"""Edits that are made to mislead: names that are none, and rows that lie about where they are.

Each is found or changes nothing, what is answered is true, and the other tenant is served on.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from keyforge.audit.application import checking
from tests.integration.audit_attacks import (
    CHAIN,
    OTHER_KEY,
    Attacked,
    attacked,
    delete,
    edit,
    seldom,
    told,
    two_tenants,
)
from tests.integration.audit_engine import append, log_of, new_database, projecting, store_on
from tests.integration.test_audit_answers import asking
from tests.integration.test_audit_evidence import COLUMNS, HEAD, LAST, RECORDS, ROWS, VERIFY, stands_alone
from tests.integration.test_audit_projection import caught_up, rebuilt, until
from tests.unit import audit_facts as facts
from tests.unit.audit_facts import Sent

MESSAGES = two_tenants()
OTHER_VERIFY = f"/v1/tenants/globex/keys/{OTHER_KEY}/verify"
SOON_S = 0.05
SHOWN_MAX = 700
"""Characters of a made-up chain's name in an answer: two parts of 300 at most, and what is between them."""


def made_up(change: str, source: str = LAST) -> str:
    """An INSERT of records that say something else than those they are copies of."""
    return f"INSERT INTO records ({COLUMNS}) SELECT * REPLACE ({change}) FROM {source}"


def made_up_requests(change: str, source: str = ROWS) -> str:
    return f"INSERT INTO requests SELECT * REPLACE ({change}) FROM {source}"


def of_other(first: int, count: int) -> list[Sent]:
    """Requests of the other tenant."""
    return [
        message
        for number in range(first, first + count)
        for message in (
            facts.adm(facts.admitted(number, key_id=OTHER_KEY, tenant="globex")),
            facts.use(facts.completed(number, key_id=OTHER_KEY, tenant="globex")),
        )
    ]


@asynccontextmanager
async def restarted(*edits: str, meanwhile: Sequence[Sent] = ()) -> AsyncIterator[Attacked]:
    """Audit stops; the tables are edited and the log goes on; audit starts."""
    log, database = await log_of(*MESSAGES), new_database()
    async with projecting(log, store_on(database)) as projection:
        await caught_up(projection, log)
    store = store_on(database)
    edit(store, *edits)
    await append(log, meanwhile)
    async with projecting(log, store) as projection, asking(store, projection) as client:
        await until(lambda: projection.build is not None, "opened")
        yield Attacked(log, store, projection, client)


# --- names that are none ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "tenant"),
    seldom(
        [
            pytest.param("unhex('ff') AS tenant", "", id="a tenant that is no text"),
            pytest.param("unhex('61fffe') AS key_id", "acme", id="a key that is no text"),
            pytest.param("'a\\nb\\t\\'c\\\\' AS key_id", "acme", id="control characters"),
            pytest.param("'' AS key_id", "acme", id="an empty key"),
            pytest.param("concat(repeat('x', 1000000), repeat('y', 1000000)) AS key_id", "acme", id="two megabytes"),
        ],
        but=("a tenant that is no text", "two megabytes"),
    ),
)
async def test_spend_of_a_name_that_is_none(change: str, tenant: str) -> None:
    async with attacked(MESSAGES, made_up_requests(change), running=False) as attack:
        for of in [{}, {"tenant": tenant}] if tenant else [{}]:
            status, type_, found = await told(attack.client, "/v1/spend", **of)
            assert (status, type_) == (503, "evidence_disagrees"), found
            shown = found["error"]["metadata"]["chain"]
            assert shown.startswith(f"key/{tenant}")
            assert shown.isprintable()
            assert len(shown) < SHOWN_MAX
        await stands_alone(attack)
        assert (await rebuilt(attack.projection)).identical is False
        assert (await told(attack.client, "/v1/spend"))[0] == 200


@pytest.mark.parametrize("name", ["unhex('ff')", "concat(repeat('x', 1000000), repeat('y', 1000000))"])
async def test_a_chain_whose_name_is_none(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "CHECK_EVERY_S", SOON_S)
    async with attacked(MESSAGES, made_up(f"{name} AS chain"), running=False) as attack:
        await until(lambda: bool(attack.projection.disagreements()), "found")
        assert len(str(attack.projection.disagreements()[0])) < SHOWN_MAX
        edit(attack.store, delete("records", f"chain = {name}"))
        await until(lambda: not attack.projection.disagreements(), "gone")
        await stands_alone(attack)


@pytest.mark.parametrize("tenant", ["mallory", pytest.param("é", marks=pytest.mark.slow)])
async def test_spend_of_a_tenant_that_no_log_has(tenant: str) -> None:
    async with attacked(MESSAGES, running=True) as attack:
        assert (await told(attack.client, "/v1/spend", tenant=tenant))[:2] == (404, "not_found")
        edit(attack.store, made_up_requests(f"'{tenant}' AS tenant"))
        for by in ("", "model"):
            assert (await told(attack.client, "/v1/spend", tenant=tenant, by=by))[:2] == (503, "evidence_disagrees")


# --- rows that lie about where they are -------------------------------------------------------------------------------


@pytest.mark.parametrize("seq", [2**63, pytest.param(2**64 - 1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("running", [True, False], ids=["running", "between two starts"])
async def test_a_surplus_record_at_the_end_of_what_the_column_holds(seq: int, running: bool) -> None:
    async with attacked(MESSAGES, made_up(f"{seq} AS seq"), running=running) as attack:
        _, _, verdict = await told(attack.client, VERIFY)
        assert (verdict["valid"], verdict["seq"]) == (False, HEAD + 1)
        assert (await told(attack.client, RECORDS))[:2] == (503, "evidence_disagrees")
        await stands_alone(attack)


async def test_a_record_before_the_first_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "CHECK_EVERY_S", SOON_S)
    async with attacked(MESSAGES, made_up("0 AS seq"), running=True) as attack:
        await until(lambda: bool(attack.projection.disagreements()), "found")
        _, _, verdict = await told(attack.client, VERIFY)
        assert (verdict["valid"], verdict["seq"]) == (False, 0)
        status, type_, found = await told(attack.client, RECORDS)
        assert (status, type_, found["error"]["metadata"]["seq"]) == (503, "evidence_disagrees", 0)
        await stands_alone(attack)


@pytest.mark.parametrize("seq", [pytest.param(1, marks=pytest.mark.slow), HEAD - 1, HEAD])
async def test_a_record_that_is_stored_twice_is_named_whichever_row_is_first(seq: int) -> None:
    source = f"(SELECT {COLUMNS} FROM records WHERE chain = '{CHAIN}' AND seq = {seq})"
    edits = (made_up("concat(body, ' ') AS body", source), "OPTIMIZE TABLE records FINAL")
    async with attacked(MESSAGES, *edits, running=True) as attack:
        _, _, verdict = await told(attack.client, VERIFY)
        assert (verdict["valid"], verdict["seq"], verdict["exact"]) == (False, seq, True), verdict
        assert (await told(attack.client, RECORDS))[2]["error"]["metadata"]["seq"] == seq
        await stands_alone(attack)


async def test_made_up_requests_do_not_pass_for_what_was_not_stored_yet() -> None:
    """Audit is down, and a row of somebody else says that requests were stored up to the end of the log."""
    rows = f"(SELECT one.*, number FROM (SELECT * FROM {ROWS} LIMIT 1) AS one CROSS JOIN numbers(1000) AS many)"
    change = "'evil' AS tenant, toString(number) AS request_id, number AS sequence"
    edits = f"INSERT INTO requests SELECT * EXCEPT number REPLACE ({change}) FROM {rows}"
    async with restarted(edits, meanwhile=of_other(700, 20)) as attack:
        await caught_up(attack.projection, attack.log)
        _, _, verdict = await told(attack.client, OTHER_VERIFY)
        assert (verdict["valid"], verdict["spend_agrees"]) == (True, True), verdict
        status, _, spent = await told(attack.client, "/v1/spend", tenant="globex")
        assert (status, spent["total"]["requests"]) == (200, 32)
        assert (await told(attack.client, "/v1/spend"))[:2] == (503, "evidence_disagrees")


async def test_records_that_were_removed_while_their_requests_stayed_are_not_written_again() -> None:
    """The rows of requests are those of the log, so their records were stored as well."""
    removed = delete("records", "sequence > 20")
    async with restarted(removed, meanwhile=of_other(700, 5)) as attack:
        await caught_up(attack.projection, attack.log)
        for path in (VERIFY, OTHER_VERIFY):
            _, _, verdict = await told(attack.client, path)
            assert (verdict["valid"], verdict["exact"]) == (False, True), verdict
        assert (await rebuilt(attack.projection)).identical is False
        assert (await told(attack.client, OTHER_VERIFY))[2]["valid"]


async def test_records_of_another_log_do_not_pass_for_the_beginning() -> None:
    fences = [facts.ctl(facts.fenced(epoch, partition=1), partition=1) for epoch in range(1, 20)]
    log, database = await log_of(*MESSAGES, *fences, partitions=2), new_database()
    async with projecting(log, store_on(database), partitions=2) as projection:
        await caught_up(projection, log)
        await caught_up(projection, log, 1)
    store = store_on(database)
    source = f"(SELECT {COLUMNS} FROM records WHERE partition = 1 LIMIT 16)"
    edit(store, made_up("0 AS partition, 0 AS sequence", source))
    async with projecting(log, store, partitions=2) as projection, asking(store, projection) as client:
        await caught_up(projection, log)
        assert not projection.halted()
        assert (await told(client, OTHER_VERIFY))[2]["valid"]


async def test_forged_records_at_the_beginning_hide_no_other_log() -> None:
    log, database = await log_of(*MESSAGES), new_database()
    async with projecting(log, store_on(database)) as projection:
        await caught_up(projection, log)
    store = store_on(database)
    source = f"(SELECT {COLUMNS} FROM {LAST} AS one CROSS JOIN numbers(16) AS many)"
    edit(store, made_up("0 AS sequence, 'x' AS chain", source))
    other = await log_of(facts.ctl(facts.fenced()), *MESSAGES, *MESSAGES)
    async with projecting(other, store) as projection, asking(store, projection) as client:
        await until(lambda: bool(projection.halted()), "halted")
        assert "is another log" in projection.halted()["KF_LOG_0"]
        assert (await client.post("/v1/rebuild")).status_code == 409


@pytest.mark.parametrize(
    ("change", "tenant", "type_"),
    [
        pytest.param("'ghost' AS key_id, 1 AS partition, 999 AS sequence", "acme", "evidence_disagrees", id="a key"),
        pytest.param("'m' AS request_id, 'initech' AS tenant, 'Key000000009' AS key_id, 1 AS partition,"
                     " 999 AS sequence", "initech", "not_stored_yet", id="a key of the log"),
    ],
)  # fmt: skip
async def test_a_log_that_stopped_answers_for_no_made_up_rows(change: str, tenant: str, type_: str) -> None:
    """What is stored beyond a message that cannot be read may be a newer version's, or anybody's."""
    of_one = facts.ctl(
        facts.tenant_created("initech", partition=1),
        facts.key_created("Key000000009", tenant="initech"),
        partition=1,
    )
    newer = facts.of_newer_version(facts.ctl(facts.fenced(partition=1), partition=1))
    log, database = await log_of(*MESSAGES, of_one, newer, partitions=2), new_database()
    async with projecting(log, store_on(database), partitions=2) as projection:
        await caught_up(projection, log)
        await caught_up(projection, log, 0)
        await until(lambda: not projection.logs_readable, "stopped")
    store = store_on(database)
    edit(store, made_up_requests(change))
    async with projecting(log, store, partitions=2) as projection, asking(store, projection) as client:
        await caught_up(projection, log)
        for of in ({"tenant": tenant}, {}):
            found = await told(client, "/v1/spend", wait_s=1, **of)
            assert found[:2] == (503, type_), found
        assert (await told(client, "/v1/spend", wait_s=1, tenant="globex"))[0] == 200
