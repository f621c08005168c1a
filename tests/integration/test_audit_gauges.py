"""What audit does every two seconds costs the same, however much it remembers."""

from typing import Any

import pytest

from keyforge.audit.application import checking
from keyforge.audit.application import projection as projections
from keyforge.audit.application.projection import Projection
from keyforge.audit.core.evidence import Disagreement
from tests.integration.audit_engine import append, build_of, log_of, new_database, projecting, store_on
from tests.integration.test_audit_projection import CHAIN, caught_up, history, until
from tests.unit import audit_facts as facts


class Unwalked(dict[Any, Any]):
    """A dict that is looked things up in, and never walked over."""

    def refuse(self) -> Any:
        raise AssertionError("walked over")

    __iter__ = keys = values = items = refuse


async def test_the_gauges_walk_over_nothing_that_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every two seconds they are refreshed, and a million requests, chains or disagreements may be there."""
    monkeypatch.setattr(projections, "REFRESH_S", 0.01)
    monkeypatch.setattr(checking, "CHECK_EVERY_S", 3600.0)
    messages = [facts.begun(), *history(0, 40)]
    log = await log_of(*messages[:20])
    async with projecting(log, store_on(new_database())) as projection:
        await caught_up(projection, log)
        build = build_of(projection)
        await build.checked.wait()
        build.disagrees(Disagreement("records", "KF_LOG_0", CHAIN, 1, "made up"))
        folding = build.followed[0].fold
        for holder, names in (
            (folding._state, ("requests", "chains", "keys", "spend", "tombstones")),
            (build, ("disagreements",)),
            (build.writer, ("heads", "spend")),
        ):
            for name in names:
                monkeypatch.setattr(holder, name, Unwalked(getattr(holder, name)))
        await append(log, messages[20:])
        gauges = {"requests_open": 16, "chains_disagreeing": 1}
        await until(lambda: {name: gauge(projection, name) for name in gauges} == gauges, "the gauges")
        assert not projection.failed.done()


def gauge(projection: Projection, name: str) -> float | None:
    return projection._metrics.registry.get_sample_value(f"keyforge_audit_{name}", {"log": "KF_LOG_0"})
