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


def new_story() -> Story:
    return Story(tenant_created(), key_created(cap("tokens", "total", 1000)))


def test_ends_are_remembered_for_a_day_of_log_time_and_no_longer() -> None:
    story = new_story()
    story.reserve(ask(1, 100, idempotency_hash="h"))
    story.use(completed(1, 1))
    story.use(cancelled(2))
    story.now = after(24 * 3600)
    story.ctl(tenant_updated())
    assert story.ledger.state_of(rid(1)) == "completed"
    assert story.ledger.tombstones
    story.now = after(24 * 3600 + 60 + 20)
    story.ctl(tenant_updated())
    ledger = story.ledger
    assert (ledger.state_of(rid(1)), ledger.closed_sum, ledger.idempotency) == ("", 0, {})
    assert not ledger.tombstones
    assert story.use(completed(1, 5))[0].why == "unknown request"


def test_an_open_request_is_never_forgotten() -> None:
    story = new_story()
    story.reserve(ask(1, 100))
    for day in (2, 4, 6):
        story.now = after(day * 24 * 3600)
        story.ctl(tenant_updated())
    assert story.ledger.state_of(rid(1)) == "open"
    story.adm(abandoned(1))
    assert story.ledger.state_of(rid(1)) == "abandoned"
    story.now = after(9 * 24 * 3600)
    story.ctl(tenant_updated())
    assert story.ledger.state_of(rid(1)) == ""


def test_memory_is_bounded_by_number_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settle, "CLOSED_MAX", 50)
    monkeypatch.setattr(settle, "TOMBSTONES_MAX", 50)
    story = new_story()
    for i in range(200):
        story.now = after(i * 5)
        story.reserve(ask(i, 1))
        story.use(completed(i, 1))
        story.use(cancelled(f"never {i}", deadline=story.now))
    assert len(story.ledger.closed) <= 52
    assert len(story.ledger.tombstones) <= 52
    assert state_hash(story.replay()) == state_hash(story.ledger)


def test_no_abandonment_is_forgotten_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settle, "CLOSED_MAX", 50)
    story = new_story()
    story.reserve(ask("late", 100))
    story.now = after(90)
    story.adm(abandoned("late"))
    for i in range(200):
        story.now = after(100 + i * 5)
        story.reserve(ask(i, 1))
        story.use(completed(i, 1))
    assert story.ledger.state_of(rid(0)) == ""
    assert story.ledger.state_of(rid("late")) == "abandoned"
    assert story.use(completed("late", 40)) == []
    assert story.ledger.state_of(rid("late")) == "completed"
    assert state_hash(story.replay()) == state_hash(story.ledger)
    story.now = after(2 * 24 * 3600)
    story.ctl(tenant_updated())
    assert story.ledger.state_of(rid("late")) == ""


def test_an_edge_cannot_make_a_tombstone_last_without_end() -> None:
    story = new_story()
    story.use(cancelled(1, deadline=after(10 * 365 * 24 * 3600)))
    story.now = after(27 * 3600)
    story.ctl(tenant_updated())
    assert not story.ledger.tombstones


def test_old_windows_go_when_nothing_is_open_in_them() -> None:
    story = Story(tenant_created(), key_created(cap("requests", "minute", 10)))
    for minute in range(50):
        story.now = after(60 * minute)
        story.reserve(ask(minute))
        story.use(completed(minute, 1))
    assert len(story.ledger.keys[KEY].scope.accounts["requests/minute"].windows) == 1
