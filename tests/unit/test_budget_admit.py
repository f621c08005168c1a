"""Admission as a table: history, ask, outcome."""

from datetime import timedelta
from typing import Any

import pytest

from keyforge.budget.core.admit import AlreadyAdmitted, Refused
from keyforge.contracts.events import Event, RequestAdmitted
from keyforge.contracts.ids import EdgeId, KeyId, TenantId
from keyforge.contracts.limits import CAP_MAX, Debit, Limit, Window
from keyforge.contracts.reserve import TTL_MS_MAX, Reserve
from tests.unit.budget_facts import (
    EDGE,
    KEY,
    T0,
    Story,
    abandoned,
    after,
    ask,
    cancelled,
    cap,
    completed,
    key_created,
    key_revoked,
    key_updated,
    resumed,
    rid,
    tenant_created,
    tenant_updated,
)

OTHER_EDGE = EdgeId("edge-1")


def story_of(*limits: Limit, tenant: tuple[Limit, ...] = ()) -> Story:
    return Story(tenant_created(*tenant), key_created(*limits))


def outcome_of(story: Story, one: Reserve) -> Any:
    """The refusal's type, or "admitted", or "again"."""
    outcome = story.decide(one)
    if isinstance(outcome, Refused):
        return outcome.type
    return "admitted" if isinstance(outcome, RequestAdmitted) else "again"


USD = cap("usd", "day", 100)


@pytest.mark.parametrize(
    ("limits", "history", "one", "outcome"),
    [
        pytest.param([], [], ask(9, 10**18), "admitted", id="no limit, no bound"),
        pytest.param([USD], [], ask(9, 100), "admitted", id="fits exactly"),
        pytest.param([USD], [], ask(9, 101), "budget_exceeded", id="one too many"),
        pytest.param([USD], [ask(1, 60)], ask(9, 41), "budget_exceeded", id="what is reserved counts"),
        pytest.param([USD], [ask(1, 60), completed(1, 10)], ask(9, 90), "admitted", id="completion frees the rest"),
        pytest.param([USD], [ask(1, 60), completed(1, 10)], ask(9, 91), "budget_exceeded", id="what is settled counts"),
        pytest.param([USD], [ask(1, 60), completed(1, None)], ask(9, 41), "budget_exceeded", id="usage unknown"),
        pytest.param([USD], [ask(1, 60), cancelled(1)], ask(9, 100), "admitted", id="a cancel frees all"),
        pytest.param([USD], [ask(1, 60), abandoned(1)], ask(9, 41), "budget_exceeded", id="abandoned is spent"),
        pytest.param([USD], [ask(1, 60), abandoned(1), completed(1, 5)], ask(9, 95), "admitted", id="late completion"),
        pytest.param(
            [USD], [ask(1, 60), completed(1, 5), abandoned(1)], ask(9, 95), "admitted", id="never the reverse"
        ),
        pytest.param([cap("usd", "day", 0)], [], ask(9, 0), "admitted", id="a free model fits an empty budget"),
        pytest.param([cap("requests", "minute", 1)], [ask(1)], ask(9), "rate_limited", id="requests"),
        pytest.param(
            [cap("requests", "minute", 1)], [ask(1), cancelled(1)], ask(9), "admitted", id="request given back"
        ),
        pytest.param(
            [cap("requests", "minute", 1)], [ask(1), completed(1, 0)], ask(9), "rate_limited", id="request used"
        ),
        pytest.param([cap("requests", "hour", 1)], [ask(1)], ask(9), "quota_exceeded", id="requests of an hour"),
        pytest.param([cap("requests", "total", 1)], [ask(1)], ask(9), "quota_exceeded", id="requests in total"),
        pytest.param([cap("requests", "minute", 0)], [], ask(9), "quota_exceeded", id="no request ever fits"),
        pytest.param([cap("tokens", "minute", 15)], [ask(1)], ask(9), "tokens_limited", id="tokens"),
        pytest.param([cap("tokens", "minute", 5)], [], ask(9), "quota_exceeded", id="more than a minute can hold"),
        pytest.param([cap("tokens", "day", 15)], [ask(1)], ask(9), "quota_exceeded", id="tokens of a day"),
        pytest.param([cap("concurrency", "total", 1)], [ask(1)], ask(9), "concurrency_limited", id="one at a time"),
        pytest.param([cap("concurrency", "total", 1)], [ask(1), completed(1, 3)], ask(9), "admitted", id="one by one"),
        pytest.param(
            [cap("concurrency", "total", 1)], [ask(1), abandoned(1)], ask(9), "admitted", id="abandoned, not open"
        ),
        pytest.param([], [ask(1)], ask(1), "again", id="the same ask again"),
        pytest.param([], [ask(1)], ask(1, 11), "idempotency_conflict", id="the same id for something dearer"),
        pytest.param([], [ask(1)], ask(1, worst_nusd=11), "idempotency_conflict", id="for more money"),
        pytest.param([], [ask(1)], ask(1, worst_tokens=11), "idempotency_conflict", id="for more tokens"),
        pytest.param([], [ask(1)], ask(1, key_id=KeyId("other")), "idempotency_conflict", id="for another key"),
        pytest.param([], [ask(1)], ask(1, body_commitment="other"), "idempotency_conflict", id="for another body"),
        pytest.param([USD], [ask(1, 30), ask(2, 30)], ask(9, 41), "budget_exceeded", id="all that are open count"),
        pytest.param(
            [USD],
            [ask(1, 60), key_updated(cap("usd", "day", 90))],
            ask(9, 31, policy_revision=2),
            "budget_exceeded",
            id="a limit whose cap changes goes on counting",
        ),
        pytest.param([], [ask(1), completed(1, 1)], ask(1), "idempotency_conflict", id="an id that ended"),
        pytest.param([], [ask(1), cancelled(1)], ask(1), "request_cancelled", id="an id that was cancelled"),
        pytest.param([], [cancelled(1)], ask(1), "request_cancelled", id="cancelled before it was asked"),
        pytest.param(
            [], [ask(1, idempotency_hash="h")], ask(9, idempotency_hash="h"), "idempotency_conflict", id="open"
        ),
        pytest.param(
            [],
            [ask(1, idempotency_hash="h"), completed(1, 0)],
            ask(9, idempotency_hash="h"),
            "idempotency_conflict",
            id="repeated when it is done",
        ),
        pytest.param(
            [],
            [ask(1, idempotency_hash="h"), completed(1, 0, may_be_repeated=True)],
            ask(9, idempotency_hash="h"),
            "admitted",
            id="answered that it may be repeated",
        ),
        pytest.param(
            [],
            [ask(1, idempotency_hash="h"), completed(1, 1, may_be_repeated=True)],
            ask(9, idempotency_hash="h"),
            "idempotency_conflict",
            id="answered so, though it cost something",
        ),
        pytest.param(
            [],
            [ask(1, idempotency_hash="h"), completed(1, None, may_be_repeated=True)],
            ask(9, idempotency_hash="h"),
            "idempotency_conflict",
            id="answered so, at a cost that nobody knows",
        ),
        pytest.param(
            [], [ask(1, idempotency_hash="h"), cancelled(1)], ask(9, idempotency_hash="h"), "admitted", id="never sent"
        ),
        pytest.param([], [key_revoked()], ask(9), "key_revoked", id="revoked"),
        pytest.param([], [key_updated()], ask(9), "stale_policy", id="a newer policy is known"),
        pytest.param([], [key_updated()], ask(9, policy_revision=2), "admitted", id="the newer policy"),
        pytest.param([], [], ask(9, policy_revision=2), "stale_policy", id="the edge knows more"),
        pytest.param([], [tenant_updated(status="suspended")], ask(9), "tenant_suspended", id="suspended"),
        pytest.param([], [], ask(9, key_id=KeyId("other")), "key_invalid", id="unknown key"),
        pytest.param([], [], ask(9, tenant=TenantId("other")), "key_invalid", id="another tenant's key"),
        pytest.param([], [ask(1), completed(1, 11)], ask(9), "model_frozen", id="billed beyond the reserved"),
        pytest.param([], [ask(1), completed(1, 11), resumed()], ask(9), "admitted", id="resumed"),
        pytest.param([], [], ask(9, -1), "request_invalid", id="a negative price frees no money"),
        pytest.param([], [], ask(9, worst_nusd=-1), "request_invalid", id="money below zero"),
        pytest.param([], [], ask(9, worst_tokens=-1), "request_invalid", id="tokens below zero"),
        pytest.param([], [], ask(9, worst_nusd=CAP_MAX + 1), "request_invalid", id="more money than there is"),
        pytest.param([], [], ask(9, CAP_MAX + 1), "request_invalid", id="out of all bounds"),
        pytest.param([], [], ask(9, ttl_ms=TTL_MS_MAX + 1), "request_invalid", id="open for too long"),
        pytest.param([], [], ask(9, ttl_ms=0), "request_invalid", id="open for no time"),
        pytest.param([], [], ask("x" * 80), "request_invalid", id="no id of ours"),
    ],
)
def test_admit(limits: list[Limit], history: list[Event | Reserve], one: Reserve, outcome: str) -> None:
    story = story_of(*limits)
    for step in history:
        if isinstance(step, Reserve):
            assert isinstance(story.reserve(step), RequestAdmitted)
        elif step.WRITER == "use":
            story.use(step)
        elif step.WRITER == "adm":
            story.adm(step)
        else:
            story.ctl(step)
    assert outcome_of(story, one) == outcome


def test_an_admission_is_complete() -> None:
    story = story_of(cap("usd", "month", 100), tenant=(cap("requests", "minute", 5),))
    admitted = story.decide(ask(1, 40, idempotency_hash="h"))
    assert isinstance(admitted, RequestAdmitted)
    assert admitted.edge == EDGE
    assert admitted.deadline == T0 + timedelta(seconds=60)
    assert (admitted.reserved.nusd, admitted.reserved.tokens) == (40, 40)
    assert admitted.debits == (
        Debit(amount=40, limit="usd/month", scope=f"key:{KEY}", window_id=2026 * 12 + 10),
        Debit(amount=1, limit="requests/minute", scope="tenant:acme", window_id=int(T0.timestamp()) // 60),
    )


@pytest.mark.parametrize(
    ("key", "tenant", "named"),
    [
        pytest.param([5], [5], "key", id="key before tenant"),
        pytest.param([50], [5], "tenant", id="only the tenant's does not fit"),
        pytest.param([], [5], "tenant", id="the key has none"),
    ],
)
def test_a_refusal_names_the_first_that_does_not_fit(key: list[int], tenant: list[int], named: str) -> None:
    story = story_of(*(cap("usd", "day", c) for c in key), tenant=tuple(cap("usd", "month", c) for c in tenant))
    refused = story.decide(ask(1, 10))
    assert isinstance(refused, Refused)
    assert (refused.scope, refused.unit) == (named, "usd")


def test_all_or_nothing() -> None:
    story = story_of(cap("usd", "day", 100), tenant=(cap("usd", "day", 5),))
    assert isinstance(story.reserve(ask(1, 10)), Refused)
    assert not any(account.windows for account in story.ledger.keys[KEY].scope.accounts.values())


def test_retry_after_is_the_end_of_the_window() -> None:
    story = story_of(cap("requests", "minute", 1))
    story.reserve(ask(1))
    refused = story.decide(ask(2))
    assert isinstance(refused, Refused)
    assert refused.retry_after_s == 30  # T0 is half past
    story.now = after(30)
    assert isinstance(story.decide(ask(2)), RequestAdmitted)


def test_concurrency_asks_to_come_back_in_a_second() -> None:
    story = story_of(cap("concurrency", "total", 1))
    story.reserve(ask(1))
    refused = story.decide(ask(2))
    assert isinstance(refused, Refused)
    assert (refused.type, refused.retry_after_s) == ("concurrency_limited", 1)


def test_a_key_expires() -> None:
    story = Story(tenant_created(), key_created(expires_at=after(5)))
    assert outcome_of(story, ask(1)) == "admitted"
    story.now = after(5)
    assert outcome_of(story, ask(1)) == "key_expired"


def test_an_idempotency_conflict_names_the_first() -> None:
    story = story_of()
    story.reserve(ask(1, idempotency_hash="h"))
    refused = story.decide(ask(2, idempotency_hash="h"))
    assert isinstance(refused, Refused)
    assert (refused.first_request, refused.first_state) == (rid(1), "open")
    story.use(completed(1, 3))
    refused = story.decide(ask(2, idempotency_hash="h"))
    assert isinstance(refused, Refused)
    assert (refused.first_request, refused.first_state) == (rid(1), "completed")


def test_the_same_ask_again_gets_its_position() -> None:
    story = story_of()
    story.reserve(ask(1))
    assert story.decide(ask(1)) == AlreadyAdmitted(rid(1), 2, 0)
    assert isinstance(story.decide(ask(1), edge=OTHER_EDGE), Refused)


@pytest.mark.parametrize("one", [ask(1, key_id=KeyId("new")), ask(1, policy_revision=2)])
def test_an_ask_that_is_newer_than_the_fold_shows_that_it_may_lag(one: Reserve) -> None:
    refused = story_of().decide(one)
    assert isinstance(refused, Refused)
    assert refused.may_lag


def test_an_ask_that_is_older_than_the_fold_does_not() -> None:
    story = story_of()
    story.ctl(key_updated())
    refused = story.decide(ask(1))
    assert isinstance(refused, Refused)
    assert not refused.may_lag


def test_lowering_a_cap_blocks_new_work_and_breaks_nothing_running() -> None:
    story = story_of(USD)
    story.reserve(ask(1, 80))
    story.ctl(key_updated(cap("usd", "day", 50)))
    assert outcome_of(story, ask(2, 1, policy_revision=2)) == "budget_exceeded"
    story.use(completed(1, 40))
    assert outcome_of(story, ask(2, 10, policy_revision=2)) == "admitted"
    assert outcome_of(story, ask(2, 11, policy_revision=2)) == "budget_exceeded"


def test_a_limit_taken_away_and_put_back_still_knows_what_was_spent() -> None:
    story = story_of(USD)
    story.reserve(ask(1, 80))
    story.ctl(key_updated(revision=2))
    story.ctl(key_updated(USD, revision=3))
    assert outcome_of(story, ask(2, 21, policy_revision=3)) == "budget_exceeded"


def test_a_freeze_is_the_tenants_and_the_models() -> None:
    story = story_of()
    story.ctl(tenant_created(tenant=TenantId("b")), key_created(key_id=KeyId("kb"), tenant=TenantId("b")))
    story.reserve(ask(1))
    story.use(completed(1, 11))
    assert outcome_of(story, ask(2)) == "model_frozen"
    assert outcome_of(story, ask(2, model="large")) == "admitted"
    assert outcome_of(story, ask(2, tenant=TenantId("b"), key_id=KeyId("kb"))) == "admitted"


@pytest.mark.parametrize("window", ["minute", "hour", "day", "week", "month"])
def test_money_that_is_spent_is_not_to_be_waited_for(window: Window) -> None:
    """An agent that waits for the next window spends what an operator thought was the limit of a loop."""
    refused = story_of(cap("usd", window, 10)).decide(ask(1, 11))
    assert isinstance(refused, Refused)
    assert (refused.type, refused.retry_after_s, refused.window) == ("budget_exceeded", 0, window)
