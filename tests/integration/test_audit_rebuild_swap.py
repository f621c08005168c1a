"""A rebuild that is killed at any step of exchanging the tables: the next start finishes it or forgets it."""

import threading
from typing import Any

import pytest

from keyforge.audit.outbound.clients import Clients
from keyforge.audit.outbound.tables import BESIDE, TableSets
from tests.integration.audit_attacks import edit, told
from tests.integration.audit_engine import append, log_of, new_database, projecting, store_on
from tests.integration.test_audit_answers import asking
from tests.integration.test_audit_projection import UNTIL_S, assert_equals_fold, caught_up, rows, until
from tests.integration.test_audit_rebuild import CURRENT, MESSAGES, TENFOLD, tables_of
from tests.unit import audit_facts as facts

STEPS = ["CREATE TABLE rebuild_swap", "EXCHANGE TABLES records", "EXCHANGE TABLES requests", "RENAME TABLE records",
         "RENAME TABLE requests", "DROP TABLE rebuild_swap"]  # fmt: skip


class Killed(BaseException):
    """As good as SIGKILL: nothing catches it."""


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS)
async def test_killed_at_each_step_of_the_swap(step: str, after: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is left, the next start finishes the swap or forgets it: both sets of tables are whole."""
    log, database = await log_of(*MESSAGES), new_database()
    store = store_on(database)
    async with projecting(log, store) as projection:
        await caught_up(projection, log)
        edit(store, TENFOLD)
        altered = rows(store, "SELECT * FROM requests FINAL ORDER BY ALL")
        with monkeypatch.context() as patching:
            patching.setattr(Clients, "lend", dying(Clients.lend, step, after=after))
            assert await projection.rebuild() is None
            await until(projection.failed.done, "killed")
            assert isinstance(projection.failed.exception(), Killed)
    store = store_on(database)
    async with projecting(log, store) as projection, asking(store, projection) as client:
        await caught_up(projection, log)
        begun = after or step != STEPS[0]
        kept = [one.name for one in await projection.kept()]
        assert len(kept) == begun
        current = "requests" if not begun else f"requests_{kept[0]}"
        assert rows(store, f"SELECT * FROM {current} FINAL ORDER BY ALL") == altered
        assert (await told(client, "/v1/spend"))[0] == (200 if begun else 503)
        if begun:
            assert_equals_fold(store, MESSAGES)
        assert not any(name.endswith(BESIDE) or name == "rebuild_swap" for name in tables_of(store))


async def test_one_that_failed_runs_until_its_tables_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the next one could begin, and lose its own tables to the end of this one."""
    log, store = await log_of(*MESSAGES), store_on(new_database())
    dropping, go = threading.Event(), threading.Event()
    drop = TableSets.drop_built

    def slowly(self: TableSets) -> None:
        dropping.set()
        assert go.wait(UNTIL_S)
        drop(self)

    monkeypatch.setattr(TableSets, "drop_built", slowly)
    async with projecting(log, store) as projection:
        await caught_up(projection, log)
        await append(log, [facts.of_newer_version(facts.adm(facts.admitted(50)))])
        assert await projection.rebuild() is None
        await until(dropping.is_set, "dropping")
        assert projection.rebuilding.running
        assert await projection.rebuild() is None, "it is the same one"
        go.set()
        await until(lambda: not projection.rebuilding.running, "ended")
        assert projection.rebuilding.state == "failed"
        assert tables_of(store) == CURRENT


def dying(lend: Any, step: str, *, after: bool) -> Any:
    """`lend` with clients that die at a statement."""

    class Dying:
        def __init__(self, client: Any) -> None:
            self._client = client

        def __getattr__(self, name: str) -> Any:
            return getattr(self._client, name)

        def command(self, statement: str, *args: Any, **kwargs: Any) -> Any:
            if statement.startswith(step) and not after:
                raise Killed
            done = self._client.command(statement, *args, **kwargs)
            if statement.startswith(step):
                raise Killed
            return done

    def lending(self: Clients, **kwargs: Any) -> Any:
        return _wrapped(lend(self, **kwargs), Dying)

    return lending


class _wrapped:  # noqa: N801  # a context manager
    def __init__(self, lent: Any, kind: Any) -> None:
        self._lent, self._kind = lent, kind

    def __enter__(self) -> Any:
        return self._kind(self._lent.__enter__())

    def __exit__(self, *exception: object) -> Any:
        return self._lent.__exit__(*exception)
