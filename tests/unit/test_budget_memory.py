"""What a ledger remembers of what is over, for how long, and within which bounds."""

import pytest

from keyforge.budget.core import settle
from keyforge.budget.core.state_hash import state_hash
from tests.unit.budget_facts import (
    KEY,
    Story,
    abandoned,
    after,
    ask,
    cancelled,
    cap,
    completed,
    key_created,
    rid,
    tenant_created,
    tenant_updated,
)


def story() -> Story:
    return Story(tenant_created(), key_created(cap("tokens", "total", 1000)))


def test_ends_are_remembered_for_a_day_of_log_time_and_not_for_ever() -> None:
    told = story()
    told.reserve(ask(1, 100, idempotency_hash="h"))
    told.use(completed(1, 1))
    told.use(cancelled(2))
    told.now = after(24 * 3600)
    told.ctl(tenant_updated())
    assert told.ledger.state_of(rid(1)) == "completed"
    assert told.ledger.tombstones
    told.now = after(24 * 3600 + 60 + 20)
    told.ctl(tenant_updated())
    ledger = told.ledger
    assert (ledger.state_of(rid(1)), ledger.closed_sum, ledger.idempotency) == ("", 0, {})
    assert not ledger.tombstones
    assert told.use(completed(1, 5))[0].why == "unknown request"


def test_an_open_request_is_never_forgotten() -> None:
    told = story()
    told.reserve(ask(1, 100))
    for day in (2, 4, 6):
        told.now = after(day * 24 * 3600)
        told.ctl(tenant_updated())
    assert told.ledger.state_of(rid(1)) == "open"
    told.adm(abandoned(1))
    assert told.ledger.state_of(rid(1)) == "abandoned"
    told.now = after(9 * 24 * 3600)
    told.ctl(tenant_updated())
    assert told.ledger.state_of(rid(1)) == ""


def test_memory_is_bounded_by_number_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settle, "CLOSED_MAX", 50)
    monkeypatch.setattr(settle, "TOMBSTONES_MAX", 50)
    told = story()
    for i in range(200):
        told.now = after(i * 5)
        told.reserve(ask(i, 1))
        told.use(completed(i, 1))
        told.use(cancelled(f"never {i}", deadline=told.now))
    assert len(told.ledger.closed) <= 52
    assert len(told.ledger.tombstones) <= 52
    assert state_hash(told.replay()) == state_hash(told.ledger)


def test_no_abandonment_is_forgotten_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settle, "CLOSED_MAX", 50)
    told = story()
    told.reserve(ask("late", 100))
    told.now = after(90)
    told.adm(abandoned("late"))
    for i in range(200):
        told.now = after(100 + i * 5)
        told.reserve(ask(i, 1))
        told.use(completed(i, 1))
    assert told.ledger.state_of(rid(0)) == ""
    assert told.ledger.state_of(rid("late")) == "abandoned"
    assert told.use(completed("late", 40)) == []
    assert told.ledger.state_of(rid("late")) == "completed"
    assert state_hash(told.replay()) == state_hash(told.ledger)
    told.now = after(2 * 24 * 3600)
    told.ctl(tenant_updated())
    assert told.ledger.state_of(rid("late")) == ""


def test_an_edge_cannot_make_a_tombstone_last_for_ever() -> None:
    told = story()
    told.use(cancelled(1, deadline=after(10 * 365 * 24 * 3600)))
    told.now = after(27 * 3600)
    told.ctl(tenant_updated())
    assert not told.ledger.tombstones


def test_old_windows_go_when_nothing_is_open_in_them() -> None:
    told = Story(tenant_created(), key_created(cap("requests", "minute", 10)))
    for minute in range(50):
        told.now = after(60 * minute)
        told.reserve(ask(minute))
        told.use(completed(minute, 1))
    assert len(told.ledger.keys[KEY].scope.accounts["requests", "minute"].windows) == 1
