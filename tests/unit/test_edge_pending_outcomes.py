"""A refusal that an outcome on its way may lift is asked again until its owner has seen that; any other stands."""

import pytest

from keyforge.contracts.ids import KeyId
from keyforge.edge.core.settlement.pending_outcomes import KEYS_MAX, LIFTED, PAUSES_S, PendingOutcomes

KEY, OTHER = KeyId("key"), KeyId("other")
REFUSED = "concurrency_limited"


def submitted(count: int = 1) -> PendingOutcomes:
    pending = PendingOutcomes()
    for _ in range(count):
        pending.submitted(KEY)
    return pending


@pytest.mark.parametrize("refused", sorted(LIFTED))
def test_an_outcome_that_is_not_stored_yet_may_lift_it(refused: str) -> None:
    appeal = submitted().retry(KEY)
    assert [appeal.pause_s(refused, 100) for _ in range(len(PAUSES_S) + 1)] == [*PAUSES_S, None]


@pytest.mark.parametrize("refused", ["rate_limited", "key_revoked", "stale_policy"])
def test_no_outcome_lifts_any_other(refused: str) -> None:
    assert submitted().retry(KEY).pause_s(refused, 0) is None


def test_a_refusal_by_one_who_had_not_seen_the_outcome_is_asked_again_and_one_who_had_is_believed() -> None:
    pending = submitted()
    pending.stored([KEY], 7)
    appeal = pending.retry(KEY)
    assert appeal.pause_s(REFUSED, 6) == PAUSES_S[0]
    assert appeal.pause_s(REFUSED, 7) is None


def test_only_what_was_told_before_is_waited_for() -> None:
    pending = submitted(2)
    appeal = pending.retry(KEY)
    pending.stored([KEY], 7)
    assert appeal.pause_s(REFUSED, 9) == PAUSES_S[0], "one of the two is not stored"
    pending.submitted(KEY)
    pending.stored([KEY, OTHER], 9)
    assert appeal.pause_s(REFUSED, 8) == PAUSES_S[1]
    pending.stored([KEY], 12)
    assert appeal.pause_s(REFUSED, 9) is None, "the third came later"


def test_another_key_is_not_concerned() -> None:
    assert submitted().retry(OTHER).pause_s(REFUSED, 0) is None


def test_what_is_remembered_is_bounded() -> None:
    pending = submitted()
    for number in range(KEYS_MAX):
        pending.submitted(KeyId(str(number)))
    pending.stored([KEY], 7)
    assert pending.retry(KEY).pause_s(REFUSED, 0) is None
    assert pending.retry(KeyId("1")).pause_s(REFUSED, 0) is not None
