"""A store that refuses one table, or one tenant's rows: others are compared all the same, and a rebuild mends it."""

import pytest

from keyforge.audit.application import between_blocks, checking, patience
from keyforge.eventlog.retry import Backoff
from tests.integration.audit_attacks import CHAIN, OTHER_KEY, attacked, delete, edit, told, two_tenants
from tests.integration.audit_engine import append, build_of
from tests.integration.test_audit_projection import assert_equals_fold, caught_up, history, rebuilt, rows, until
from tests.unit import audit_facts as facts

MESSAGES = [facts.begun(), *history()]
SOON_S = 0.05


async def test_rows_that_are_not_taken_keep_no_other_edit_from_being_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "CHECK_EVERY_S", SOON_S)
    monkeypatch.setattr(between_blocks, "BLOCK_S", SOON_S)
    async with attacked(two_tenants(), running=True) as attack:
        edit(attack.store, "ALTER TABLE requests ADD CONSTRAINT one CHECK tenant != 'globex'")
        of_both = [
            *(facts.adm(facts.admitted(900)), facts.use(facts.completed(900))),
            facts.adm(facts.admitted(901, key_id=OTHER_KEY, tenant="globex")),
            facts.use(facts.completed(901, key_id=OTHER_KEY, tenant="globex")),
        ]
        await append(attack.log, of_both)
        await until(lambda: not build_of(attack.projection).writer.healthy, "a block is repeated")
        before = build_of(attack.projection).checked_at
        await until(lambda: build_of(attack.projection).checked_at > before, "compared all the same")
        assert not attack.projection.disagreements(), "what waits is no difference"
        status, _, spent = await told(attack.client, "/v1/spend", tenant="globex", wait_s=0)
        assert (status, spent["lag"] > 0) == (200, True)
        edit(attack.store, delete("records", f"chain = '{CHAIN}' AND seq = 3"))
        await until(lambda: [one.chain for one in attack.projection.disagreements()] == [CHAIN], "named")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param("ALTER TABLE records ADD CONSTRAINT one CHECK seq = 0", id="no row is taken"),
        pytest.param("ALTER TABLE requests DROP COLUMN edge", id="a column is gone"),
        pytest.param("ALTER TABLE records DROP COLUMN frame_index", id="a column of evidence is gone",
                     marks=pytest.mark.slow),
    ],
)  # fmt: skip
async def test_tables_that_the_store_refuses_are_kept_and_a_rebuild_makes_others(
    change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "REFUSED_BACKOFF", Backoff(SOON_S, SOON_S))
    async with attacked(MESSAGES, running=True) as attack:
        edit(attack.store, change)
        later = [facts.adm(facts.admitted(900)), facts.use(facts.completed(900))]
        await append(attack.log, later)
        found = await rebuilt(attack.projection)
        assert (found.state, found.identical, found.error) == ("done", None, "")
        assert "could not be compared" in found.differences[-1].why
        await caught_up(attack.projection, attack.log)
        assert_equals_fold(attack.store, [*MESSAGES, *later])
        assert rows(attack.store, f"SELECT count() > 0 FROM records_{found.kept}") == [(1,)]
