"""What the fold accepts, what it rejects, and what it forgets."""

import msgspec
import pytest

from keyforge.budget.core import evolve
from keyforge.budget.core.fold import Rejected, fold
from keyforge.contracts import frame, subjects
from keyforge.contracts.events import RequestAdmitted, RequestOverran
from keyforge.contracts.frame import Recorded, Unread
from keyforge.contracts.ids import EdgeId, KeyId, TenantId
from keyforge.contracts.limits import CAP_MAX, Amounts
from tests.unit.budget_facts import (
    EDGE,
    KEY,
    MODEL,
    PROVIDER,
    T0,
    TENANT,
    Story,
    abandoned,
    after,
    ask,
    cancelled,
    cap,
    completed,
    fenced,
    key_created,
    key_updated,
    resumed,
    rid,
    tenant_created,
    tenant_updated,
)

OTHER = EdgeId("edge-1")


def new_story() -> Story:
    return Story(tenant_created(), key_created(cap("usd", "day", 1000), cap("tokens", "total", 1000)), fenced(1))


def spent(story: Story) -> tuple[int, int]:
    """Settled and reserved on the key's money."""
    balances = story.ledger.keys[KEY].scope.accounts["usd/day"].windows.values()
    return sum(b.settled for b in balances), sum(b.reserved for b in balances)


def test_the_debits_of_the_admission_count_whatever_the_limits_are_now() -> None:
    story = new_story()
    story.reserve(ask(1, 100))
    story.ctl(key_updated())
    story.use(completed(1, 30))
    assert spent(story) == (30, 0)


def test_a_reservation_belongs_to_the_window_that_it_was_opened_in() -> None:
    story = new_story()
    story.reserve(ask(1, 100))
    story.now = after(24 * 3600)
    story.reserve(ask(2, 50))
    account = story.ledger.keys[KEY].scope.accounts["usd/day"]
    assert sorted(b.reserved for b in account.windows.values()) == [50, 100]
    story.use(completed(1, 30))
    assert [(b.settled, b.reserved) for b in account.windows.values()] == [(0, 50)]


def test_only_the_edge_of_the_admission_is_accepted() -> None:
    story = new_story()
    story.reserve(ask(1, 100))
    assert story.use(completed(1, 1, edge=OTHER), edge=OTHER)[0].why == "not the edge that was admitted"
    assert story.use(completed(1, 1), edge=OTHER)[0].why == "not the edge that was admitted"
    assert story.use(cancelled(1, edge=OTHER), edge=OTHER)[0].why == "not the edge that was admitted"
    assert story.use(cancelled(1), edge=OTHER)[0].why == "not the edge's own subject"
    assert spent(story) == (0, 100)


def test_only_a_terminal_that_names_the_key_of_the_admission_is_accepted() -> None:
    story = new_story()
    story.reserve(ask(1, 100))
    other = KeyId("other")
    assert story.use(completed(1, 1, key_id=other))[0].why == "not the key that was admitted"
    assert story.use(cancelled(1, key_id=other))[0].why == "not the key that was admitted"
    assert story.adm(abandoned(1, key_id=other))[0].why == "not the key that was admitted"
    assert spent(story) == (0, 100)


def test_another_keys_tombstone_counts_for_nothing() -> None:
    story = new_story()
    story.use(cancelled(1, key_id=KeyId("other")))
    assert isinstance(story.reserve(ask(1, 100)), RequestAdmitted)
    assert spent(story) == (0, 100)


def test_another_edges_tombstone_counts_for_nothing() -> None:
    story = new_story()
    story.use(cancelled(1, edge=OTHER), edge=OTHER)
    assert isinstance(story.reserve(ask(1, 100)), RequestAdmitted)
    assert spent(story) == (0, 100)


def test_a_cancel_before_its_admission_is_a_tombstone() -> None:
    story = new_story()
    admitted = story.decide(ask(1, 100))  # decided before the cancel was read
    assert isinstance(admitted, RequestAdmitted)
    story.use(cancelled(1))
    story.adm(admitted)
    assert spent(story) == (0, 0)
    assert story.ledger.state_of(rid(1)) == "cancelled"
    story.use(completed(1, 50))
    story.adm(abandoned(1))
    assert spent(story) == (0, 0)


@pytest.mark.parametrize("used", [-1, -(10**30), 0, 10**30])
def test_a_report_that_cannot_be_is_read_and_refunds_nothing(used: int) -> None:
    story = new_story()
    story.reserve(ask(1, 100))
    story.use(completed(1, 60))
    story.reserve(ask(2, 100))
    sent = Recorded("c2", "edge", T0, completed(2, used))
    assert frame.decode(frame.encode([sent]), subjects.use(0, EDGE)) == [sent]
    assert not story.use(sent.event)
    assert spent(story) == (60 + min(max(used, 0), CAP_MAX), 0)
    assert story.ledger.state_of(rid(2)) == "completed"


def test_a_second_admission_of_one_id_is_nothing() -> None:
    story = new_story()
    admitted = story.reserve(ask(1, 100))
    assert isinstance(admitted, RequestAdmitted)
    assert story.adm(admitted)[0].why == "admitted before"
    story.use(completed(1, 10))
    assert story.adm(admitted)[0].why == "admitted before"
    assert spent(story) == (10, 0)


@pytest.mark.parametrize(
    ("ends_with", "settled", "state"),
    [
        ([completed(1, 10), completed(1, 20)], 10, "completed"),
        ([completed(1, 10), cancelled(1)], 10, "completed"),
        ([cancelled(1), completed(1, 10)], 0, "cancelled"),
        ([completed(1, None)], 100, "completed"),
    ],
)
def test_one_terminal_counts(ends_with: list[object], settled: int, state: str) -> None:
    story = new_story()
    story.reserve(ask(1, 100))
    for event in ends_with:
        assert not story.use(event)  # type: ignore[arg-type]
    assert (spent(story), story.ledger.state_of(rid(1))) == ((settled, 0), state)


@pytest.mark.parametrize(("late", "settled"), [(completed(1, 10), 10), (completed(1, None), 100)])
def test_a_late_completion_replaces_the_abandonment(late: object, settled: int) -> None:
    story = new_story()
    story.reserve(ask(1, 100))
    story.adm(abandoned(1))
    assert spent(story) == (100, 0)
    story.use(late)  # type: ignore[arg-type]
    story.use(completed(1, 77))
    story.adm(abandoned(1))
    assert (spent(story), story.ledger.state_of(rid(1))) == ((settled, 0), "completed")


def test_a_cancel_does_not_replace_an_abandonment() -> None:
    story = new_story()
    story.reserve(ask(1, 100))
    story.adm(abandoned(1))
    story.use(cancelled(1))
    assert spent(story) == (100, 0)


def test_an_overrun_is_charged_frozen_at_once_and_reported_once() -> None:
    story = new_story()
    story.reserve(ask(1, 100))
    story.use(completed(1, 150))
    assert spent(story) == (150, 0)
    assert story.ledger.frozen == {(TENANT, PROVIDER, MODEL)}
    assert list(story.ledger.overruns) == [rid(1)]
    story.ctl(resumed())
    story.adm(
        RequestOverran(
            request_id=rid(1),
            tenant=TENANT,
            key_id=KEY,
            provider=PROVIDER,
            model=MODEL,
            reserved=Amounts(nusd=100, tokens=100),
            settled=Amounts(nusd=150, tokens=150),
        )
    )
    assert not story.ledger.overruns
    assert not story.ledger.frozen  # the operator resumed it after the completion, so that lasts


def test_what_is_rejected_is_reported_and_changes_nothing_but_the_position() -> None:
    story = new_story()
    before = story.ledger.keys[KEY].revision
    story.messages.append((subjects.ctl(0), T0, []))
    unread = Unread("x", "edge/edge-0", "keyforge.key.revoked.v1", "not accepted on a subject of use")
    assert fold(story.ledger, 2, subjects.use(0, OTHER), T0, [unread]) == [Rejected(2, 0, unread.type, unread.why)]
    assert story.ledger.keys[KEY].revision == before
    assert (story.ledger.sequence, story.ledger.ctl_sequence) == (2, 1)


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (key_created(tenant=TenantId("nobody"), key_id=KeyId("k")), "unknown tenant"),
        (key_created(), "the key exists"),
        (tenant_created(), "the tenant exists"),
        (key_updated(key_id=KeyId("k")), "unknown key"),
        (fenced(1), "epoch 1 is not after epoch 1"),
    ],
)
def test_control_events_that_make_no_sense(event: object, why: str) -> None:
    assert new_story().ctl(event)[0].why == why  # type: ignore[arg-type]


def test_an_admission_of_another_epoch_is_counted_and_reported() -> None:
    story = new_story()
    admitted = story.decide(ask(1, 100))
    assert isinstance(admitted, RequestAdmitted)
    story.ctl(fenced(2))
    assert "epoch 1" in story.adm(admitted)[0].why
    assert spent(story) == (0, 100)


def test_every_message_on_the_control_clock_moves_it_even_an_empty_one() -> None:
    story = new_story()
    fold(story.ledger, 5, subjects.ctl(0), T0, [])
    assert story.ledger.ctl_sequence == 5
    fold(story.ledger, 6, subjects.adm(0), T0, [])
    assert (story.ledger.ctl_sequence, story.ledger.sequence) == (5, 6)


def test_the_position_of_a_recorded_event_is_kept() -> None:
    story = new_story()
    first, second = story.decide(ask(1)), story.decide(ask(2))
    assert isinstance(first, RequestAdmitted)
    assert isinstance(second, RequestAdmitted)
    story.adm(first, second)
    request = story.ledger.open[rid(2)]
    assert (request.sequence, request.index) == (2, 1)
    assert evolve.evolve(story.ledger, Recorded("x", "s", T0, tenant_updated()), evolve.EventOrigin(9, 0)) is None


def test_an_admission_for_another_tenants_key_is_rejected() -> None:
    story = new_story()
    story.ctl(tenant_created(tenant=TenantId("other")))
    admitted = story.decide(ask(1, 100))
    assert isinstance(admitted, RequestAdmitted)
    forged = msgspec.structs.replace(admitted, tenant=TenantId("other"))
    assert story.adm(forged)[0].why == "unknown key"
    assert (spent(story), story.ledger.open) == ((0, 0), {})


def test_the_first_request_of_an_idempotency_key_counts() -> None:
    story = new_story()
    both = [story.decide(ask(number, idempotency_hash="h")) for number in (1, 2)]
    for admitted in both:
        assert isinstance(admitted, RequestAdmitted)
        story.adm(admitted)
    assert getattr(story.decide(ask(3, idempotency_hash="h")), "first_request", "") == rid(1)


@pytest.mark.parametrize("end", [completed(1, 10), cancelled(1)])
def test_a_cancel_that_comes_after_the_end_is_not_remembered(end: object) -> None:
    """It would wait for an admission that came already, for a day."""
    story = new_story()
    story.reserve(ask(1, 100))
    story.use(end)  # type: ignore[arg-type]
    story.use(cancelled(1))
    assert story.ledger.tombstones == {}
