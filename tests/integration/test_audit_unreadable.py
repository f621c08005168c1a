"""A message of a newer version stops its log: it is named, answers lag, other logs go on, a newer audit continues."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from keyforge.contracts import frame, subjects
from keyforge.testkit.nats_server import NatsNode
from tests.integration.audit_engine import append, head_of, log_of, new_database, projecting, store_on, until_stored
from tests.integration.audit_stack import Audit, audit_on
from tests.integration.test_audit_answers import asking
from tests.integration.test_audit_projection import CHAIN, UNTIL_S, assert_equals_fold, caught_up, history, rebuilt
from tests.unit import audit_facts as facts
from tests.unit.audit_facts import KEY

KEY_PATH = f"/v1/tenants/acme/keys/{KEY}"
BEFORE = [facts.begun(), *history(count=3)]
NEWER = facts.of_newer_version(facts.adm(facts.admitted(50)))
AFTER = [facts.use(facts.completed(50)), *history(100, 3)]


async def test_what_precedes_it_is_stored_and_a_newer_version_continues(monkeypatch: pytest.MonkeyPatch) -> None:
    log, database = await log_of(*BEFORE), new_database()
    lag = 1 + len(AFTER)
    store = store_on(database)
    async with projecting(log, store) as projection, asking(store, projection) as client:
        await caught_up(projection, log)
        await append(log, [NEWER, *AFTER])
        async with asyncio.timeout(UNTIL_S):  # much sooner than `wait_s` ends
            assert await until_stored(projection, 10 * UNTIL_S) == lag
            assert await until_stored(projection, 10 * UNTIL_S) == lag
        assert not projection.logs_readable
        assert_equals_fold(store, BEFORE)
        head = head_of(projection, CHAIN)
        assert head is not None
        assert (projection.state, projection.store_healthy) == ("following", True)
        assert (await client.get("/v1/spend")).json()["lag"] == lag
        unsure = await client.get(f"{KEY_PATH}/verify")
        assert (unsure.status_code, unsure.json()["error"]["type"]) == (503, "not_stored_yet")
        assert len((await client.get(f"{KEY_PATH}/records")).json()["records"]) == head[0]
        late = await client.get("/v1/tenants/acme/keys/unknown/records")
        assert (late.status_code, late.json()["error"]["type"]) == (503, "not_stored_yet")
        await append(log, more := history(200, 1))
        assert await until_stored(projection, 1) == lag + len(more)
        failed = await rebuilt(projection)
        assert (failed.state, failed.identical) == ("failed", None)
        assert f"KF_LOG_0: this version cannot read message {len(BEFORE) + 1}" in failed.error
        assert_equals_fold(store, BEFORE)

    monkeypatch.setattr(frame, "decode", facts.decode_newer)
    store = store_on(database)
    async with projecting(log, store) as projection:
        await caught_up(projection, log)
        assert projection.logs_readable
        assert_equals_fold(store, [*BEFORE, NEWER, *AFTER, *more])


async def test_it_is_named_and_other_logs_go_on(nats_own: Callable[..., NatsNode], tmp_path: Path) -> None:
    async with audit_on(nats_own(), tmp_path / "audit") as audit:
        audit.start()
        await audit.append(
            facts.begun(), facts.of_newer_version(facts.use(facts.refused(2))), NEWER, facts.use(facts.refused(1))
        )
        stopped = await audit.until(lambda: _not_ready(audit), "the log has stopped")
        assert [name for name, holds in stopped["checks"].items() if not holds] == ["logs_readable"]
        await audit.append(
            facts.ctl(facts.tenant_created("other", partition=1), facts.key_created("k2", tenant="other"), partition=1),
            facts.adm(facts.admitted(1, key_id="k2", tenant="other"), partition=1),
        )
        found = await audit.until_records("k2", 2, tenant="other")
        assert (found["head_seq"], found["lag"]) == (2, 0), "its own log has no lag"
        assert (await audit.get(f"{KEY_PATH}/records"))["head_seq"] == 1
        metrics = (await audit.http.get("/metrics")).text
        for log, stopped_at in ((subjects.log_stream(0), 1.0), (subjects.log_stream(1), 0.0)):
            assert f'keyforge_audit_log_unreadable{{log="{log}"}} {stopped_at}' in metrics
        assert "keyforge_audit_events_rejected_total 1.0" in metrics, "what an edge wrote does not stop the log"
        assert "log stopped at a message that this version cannot read" in audit.tail()
        assert "keyforge.request.admitted.v99" in audit.tail()
        assert audit.stop() == 0


async def _not_ready(audit: Audit) -> dict[str, dict[str, bool]] | None:
    """What /readyz returns once the log has stopped."""
    if await audit.status("/readyz") == 0:
        return None
    found: dict[str, dict[str, bool]] = (await audit.http.get("/readyz")).json()
    return None if found["checks"]["logs_readable"] or not found["checks"]["store"] else found
