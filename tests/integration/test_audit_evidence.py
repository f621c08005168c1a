"""Tables that were edited from outside: each edit is named at its place, never VALID, never identical; others go on."""

from collections.abc import Sequence

import pytest

from keyforge.audit.application.examination import Examiner
from keyforge.audit.core.evidence import StoredSpend
from keyforge.audit.errors import StoreError
from keyforge.audit.outbound import schema
from keyforge.audit.outbound.store import Store
from keyforge.chain import record as rec
from keyforge.eventlog.memory import MemoryLog
from tests.integration.audit_attacks import (
    CHAIN,
    OTHER_CHAIN,
    OTHER_KEY,
    Attacked,
    attacked,
    changed_header,
    delete,
    edit,
    more,
    resealed,
    row,
    sealed_row,
    told,
    two_tenants,
    update,
)
from tests.integration.audit_engine import head_of, log_of, new_database, projecting, store_on
from tests.integration.test_audit_answers import asking
from tests.integration.test_audit_projection import assert_equals_fold, caught_up, rebuilt, until
from tests.unit import audit_facts as facts
from tests.unit.audit_facts import KEY

MESSAGES = two_tenants()
EXPECTED = facts.fold(MESSAGES)
HEAD = max(record.seq for record in EXPECTED.records if record.chain.name == CHAIN)
OWN = f"chain = '{CHAIN}'"
OWN_REQUESTS = f"key_id = '{KEY}'"
RECORDS, VERIFY = f"/v1/tenants/acme/keys/{KEY}/records", f"/v1/tenants/acme/keys/{KEY}/verify"
ROWS = f"(SELECT * FROM requests WHERE {OWN_REQUESTS})"
MADE_UP_REQUESTS = (
    "INSERT INTO requests SELECT one.* REPLACE (concat('made-up-', toString(number)) AS request_id)"
    f" FROM (SELECT * FROM {ROWS} LIMIT 1) AS one CROSS JOIN numbers(200000) AS many"
)
COLUMNS = ", ".join(schema.COLUMNS[schema.RECORDS])
LAST = f"(SELECT {COLUMNS} FROM records WHERE {OWN} AND seq = {HEAD})"

EVIDENCE = [
    pytest.param([update("records", "body = replaceOne(body, 'acme', 'evil')", f"{OWN} AND seq = 3")], 3, id="body"),
    pytest.param([update("records", "mac = reverse(mac)", f"{OWN} AND seq = 5")], 5, id="MAC"),
    pytest.param([delete("records", f"{OWN} AND seq = 7")], 7, id="middle"),
    pytest.param([delete("records", f"{OWN} AND seq = 1")], 1, id="beginning"),
    pytest.param([delete("records", f"{OWN} AND seq > {HEAD - 2}")], HEAD - 1, id="tail"),
    pytest.param([delete("records", OWN)], 1, id="chain"),
    pytest.param(
        [
            f"INSERT INTO records ({COLUMNS}) SELECT * REPLACE ({HEAD + 1} AS seq) FROM {LAST}",
        ],
        HEAD + 1,
        id="a copy after the end",
    ),
    pytest.param(
        [
            f"INSERT INTO records ({COLUMNS}) SELECT * REPLACE (1000000 AS seq, 1000000 AS sequence) FROM {LAST}",
        ],
        HEAD + 1,
        id="a copy far beyond the log",
    ),
]


async def stands_alone(attack: Attacked) -> None:
    """The other tenant has its answers, all of them true, and is served on."""
    other = f"/v1/tenants/globex/keys/{OTHER_KEY}"
    await more(attack, 500)
    verdict = (await told(attack.client, f"{other}/verify"))[2]
    head = head_of(attack.projection, OTHER_CHAIN)
    assert head is not None
    assert (verdict["valid"], verdict["seq"], verdict["spend_agrees"]) == (True, head[0], True)
    page = (await told(attack.client, f"{other}/records"))[2]
    assert len(page["records"]) == head[0]
    status, _, spent = await told(attack.client, "/v1/spend", tenant="globex")
    assert (status, spent["total"]["requests"]) == (200, 13)
    assert attack.projection.state == "following"
    assert not attack.projection.halted()


@pytest.mark.parametrize("running", [True, False], ids=["running", "between two starts"])
@pytest.mark.parametrize(("edits", "seq"), EVIDENCE)
async def test_edited_evidence(edits: Sequence[str], seq: int, running: bool) -> None:
    async with attacked(MESSAGES, *edits, running=running) as attack:
        status, type_, found = await told(attack.client, RECORDS)
        assert (status, type_) == (503, "evidence_disagrees"), found
        named = found["error"]["metadata"]
        assert (named["log"], named["chain"], named["seq"]) == ("KF_LOG_0", CHAIN, seq)
        status, _, verdict = await told(attack.client, VERIFY)
        assert (status, verdict["valid"], verdict["seq"], verdict["exact"]) == (200, False, seq, True), verdict
        assert (verdict["log"], verdict["log_end"], verdict["lag"]) == ("KF_LOG_0", len(MESSAGES), 0)
        assert verdict["spend_agrees"] is True
        for tenant in ({}, {"tenant": "acme"}):
            status, type_, found = await told(attack.client, "/v1/spend", **tenant)
            assert (status, type_, found["error"]["metadata"]["seq"]) == (503, "evidence_disagrees", seq)
        await stands_alone(attack)
        result = await rebuilt(attack.projection)
        assert (result.state, result.identical) == ("done", False)
        first = result.differences[0]
        assert (first.table, first.log, first.chain) == ("records", "KF_LOG_0", CHAIN)
        assert first.seq == (1_000_000 if "1000000" in edits[0] else seq)
        status, _, verdict = await told(attack.client, VERIFY)
        assert (status, verdict["valid"], verdict["seq"]) == (200, True, HEAD + 2)
        assert not attack.projection.disagreements()


@pytest.mark.parametrize(
    ("edits", "chain"),
    [
        pytest.param([update("requests", "settled_nusd = settled_nusd * 10", OWN_REQUESTS)], CHAIN, id="ten times"),
        pytest.param([update("requests", "settled_tokens = 1", OWN_REQUESTS)], CHAIN, id="tokens"),
        pytest.param([MADE_UP_REQUESTS], CHAIN, id="made-up requests"),
        pytest.param([delete("requests", f"{OWN_REQUESTS} AND terminal = 'completed'")], CHAIN, id="deleted"),
        pytest.param(
            [f"INSERT INTO requests SELECT * REPLACE ('ghost' AS key_id) FROM {ROWS}"],
            "key/acme/ghost",
            id="a key without a chain",
        ),
        pytest.param(
            [f"INSERT INTO requests SELECT * REPLACE ('a/b' AS key_id) FROM {ROWS}"],
            "key/acme/a/b",
            id="a key that cannot be",
        ),
    ],
)
async def test_edited_spend_between_two_starts(edits: Sequence[str], chain: str) -> None:
    async with attacked(MESSAGES, *edits, running=False) as attack:
        for tenant in ({}, {"tenant": "acme"}):
            status, type_, found = await told(attack.client, "/v1/spend", **tenant)
            assert (status, type_, found["error"]["metadata"]["chain"]) == (503, "evidence_disagrees", chain)
        _, _, verdict = await told(attack.client, VERIFY)
        assert (verdict["valid"], verdict["spend_agrees"]) == (True, chain != CHAIN)
        await stands_alone(attack)
        result = await rebuilt(attack.projection)
        assert (result.state, result.identical) == ("done", False)
        assert {(found.table, found.chain) for found in result.differences} == {("requests", chain)}
        status, _, spent = await told(attack.client, "/v1/spend", tenant="acme")
        assert (status, spent["total"]["requests"]) == (200, EXPECTED.spend[CHAIN].requests + 1)


async def test_edited_spend_is_found_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keyforge.audit.application.checking.CHECK_EVERY_S", 0.05)
    async with attacked(MESSAGES, running=True) as attack:
        assert (await told(attack.client, "/v1/spend"))[0] == 200
        edit(attack.store, update("requests", "settled_nusd = settled_nusd * 10", OWN_REQUESTS))
        await until(lambda: bool(attack.projection.disagreements()), "found")
        assert (await told(attack.client, "/v1/spend"))[:2] == (503, "evidence_disagrees")
        edit(attack.store, update("requests", "settled_nusd = intDiv(settled_nusd, 10)", OWN_REQUESTS))
        await until(lambda: not attack.projection.disagreements(), "mended")
        await stands_alone(attack)
        assert (await told(attack.client, "/v1/spend"))[0] == 200


async def test_spend_that_was_not_compared_for_a_minute_is_not_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keyforge.audit.application.spending.LATE_S_MAX", 0.0)
    async with attacked(MESSAGES, running=True) as attack:
        assert (await told(attack.client, "/v1/spend"))[:2] == (503, "not_stored_yet")


async def test_a_forged_row_that_is_sealed_with_the_right_key() -> None:
    """Whoever has the key can seal anything. He cannot change the log."""
    async with attacked(MESSAGES, running=True) as attack:
        header, body = row(attack.store, CHAIN, HEAD)
        forged = changed_header(header, seq=HEAD + 1, previous=rec.record_hash(header))
        edit(attack.store, sealed_row(CHAIN, forged, body))
        _, _, verdict = await told(attack.client, VERIFY)
        assert (verdict["valid"], verdict["seq"]) == (False, HEAD + 1)
        await stands_alone(attack)


async def test_a_history_that_is_sealed_again_with_the_right_key() -> None:
    """From seq 4 on; the chain itself is valid."""
    async with attacked(MESSAGES, running=True) as attack:
        edit(attack.store, *resealed(attack.store, CHAIN, HEAD, 3))
        _, _, verdict = await told(attack.client, VERIFY)
        assert (verdict["valid"], verdict["seq"], verdict["exact"]) == (False, 4, True), verdict
        assert (await told(attack.client, RECORDS, limit=2))[:2] == (503, "evidence_disagrees")
        await stands_alone(attack)


async def test_a_chain_that_no_log_has() -> None:
    async with attacked(MESSAGES, running=True) as attack:
        header, body = row(attack.store, CHAIN, 1)
        ghost = "key/acme/ghost"
        edit(attack.store, sealed_row(ghost, changed_header(header, chain_id=rec.chain_id(ghost)), body))
        _, _, verdict = await told(attack.client, "/v1/tenants/acme/keys/ghost/verify")
        assert (verdict["valid"], verdict["seq"], verdict["log"]) == (False, 1, None)
        assert (await told(attack.client, "/v1/tenants/acme/keys/ghost/records"))[:2] == (503, "evidence_disagrees")
        assert (await told(attack.client, "/v1/tenants/acme/keys/nobody/verify"))[:2] == (404, "not_found")
        await stands_alone(attack)


async def test_every_page_is_what_the_log_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chains that are longer than the distance of two anchors, and an altered record on the last page alone."""
    messages = two_tenants(200)
    async with attacked(messages, running=True) as attack:
        head = head_of(attack.projection, CHAIN)
        assert head is not None
        after, seqs = 0, list[int]()
        while True:
            page = (await told(attack.client, RECORDS, after=after, limit=37))[2]
            seqs += [record["seq"] for record in page["records"]]
            if page["next"] is None:
                break
            after = page["next"]
        assert seqs == list(range(1, head[0] + 1))
        edit(attack.store, update("records", "body = concat(body, ' ')", f"{OWN} AND seq = {head[0] - 3}"))
        assert (await told(attack.client, RECORDS, after=head[0] - 10))[2]["error"]["metadata"]["seq"] == head[0] - 3
        assert (await told(attack.client, RECORDS, limit=5))[:2] == (503, "evidence_disagrees")
        edit(
            attack.store,
            update("records", "body = substring(body, 1, length(body) - 1)", f"{OWN} AND seq = {head[0] - 3}"),
        )
        assert (await told(attack.client, RECORDS, limit=5))[0] == 200
        monkeypatch.setattr(Examiner, "chain", None)  # a page needs no more than itself
        assert (await told(attack.client, RECORDS, after=100, limit=5))[0] == 200


async def test_a_log_that_is_shorter_than_what_is_stored_halts_alone() -> None:
    log, database = await log_of(*MESSAGES), new_database()
    async with projecting(log, store_on(database)) as projection:
        await caught_up(projection, log)
    shorter, store = await log_of(*MESSAGES[:10]), store_on(database)
    async with projecting(shorter, store) as projection, asking(store, projection) as client:
        await until(lambda: bool(projection.halted()), "halted")
        assert "ends at 10, records are stored up to" in projection.halted()["KF_LOG_0"]
        for path in (RECORDS, VERIFY, "/v1/spend"):
            status, type_, found = await told(client, path, wait_s=0.1)
            assert (status, type_) == (503, "evidence_disagrees")
            assert found["error"]["metadata"]["log"] == "KF_LOG_0"
        answer = await client.post("/v1/rebuild")
        assert (answer.status_code, answer.json()["error"]["type"]) == (409, "rebuild_refused")
        assert "ends at 10" in answer.json()["error"]["message"]
    store = store_on(database)
    assert_equals_fold(store, MESSAGES)
    store.close()


class UncheckedStore(Store):
    """A store in which spend cannot be compared."""

    def spend_of_keys(self, _keys: Sequence[tuple[str, str]] = ()) -> list[StoredSpend]:
        raise StoreError("fixture: refused")


async def test_a_log_that_halts_is_named_before_anything_was_compared() -> None:
    log, database = await log_of(*MESSAGES), new_database()
    async with projecting(log, store_on(database)) as projection:
        await caught_up(projection, log)
    store = store_on(database, UncheckedStore)
    async with projecting(await log_of(*MESSAGES[:10]), store) as projection, asking(store, projection) as client:
        await until(lambda: bool(projection.halted()), "halted")
        assert (await told(client, "/v1/spend", wait_s=0))[:2] == (503, "evidence_disagrees")


async def test_another_log_halts_alone_and_is_not_rebuilt_from() -> None:
    log, database = await log_of(*MESSAGES), new_database()
    async with projecting(log, store_on(database)) as projection:
        await caught_up(projection, log)
    other: MemoryLog = await log_of(facts.ctl(facts.fenced()), *MESSAGES, *MESSAGES)
    store = store_on(database)
    async with projecting(other, store) as projection, asking(store, projection) as client:
        await until(lambda: bool(projection.halted()), "halted")
        assert "is another log" in projection.halted()["KF_LOG_0"]
        assert (await told(client, VERIFY))[:2] == (503, "evidence_disagrees")
        answer = await client.post("/v1/rebuild")
        assert (answer.status_code, answer.json()["error"]["type"]) == (409, "rebuild_refused")
    store = store_on(database)
    assert_equals_fold(store, MESSAGES)
    store.close()
