"""A refusal that an outcome on its way may lift is asked again until its owner has seen that; any other stands."""

import pytest

from keyforge.contracts.ids import KeyId
from keyforge.edge.core.settlement.pending_outcomes import KEYS_MAX, LIFTED, PAUSES_S, Settling

KEY, OTHER = KeyId("key"), KeyId("other")
REFUSED = "concurrency_limited"


def told(count: int = 1) -> Settling:
    settling = Settling()
    for _ in range(count):
        settling.told(KEY)
    return settling


@pytest.mark.parametrize("refused", sorted(LIFTED))
def test_an_outcome_that_is_not_stored_yet_may_lift_it(refused: str) -> None:
    appeal = told().appeal(KEY)
    assert [appeal.pause_s(refused, 100) for _ in range(len(PAUSES_S) + 1)] == [*PAUSES_S, None]


@pytest.mark.parametrize("refused", ["rate_limited", "key_revoked", "stale_policy"])
def test_no_outcome_lifts_any_other(refused: str) -> None:
    assert told().appeal(KEY).pause_s(refused, 0) is None


def test_a_refusal_by_one_who_had_not_seen_the_outcome_is_asked_again_and_one_who_had_is_believed() -> None:
    settling = told()
    settling.stored([KEY], 7)
    appeal = settling.appeal(KEY)
    assert appeal.pause_s(REFUSED, 6) == PAUSES_S[0]
    assert appeal.pause_s(REFUSED, 7) is None


def test_only_what_was_told_before_is_waited_for() -> None:
    settling = told(2)
    appeal = settling.appeal(KEY)
    settling.stored([KEY], 7)
    assert appeal.pause_s(REFUSED, 9) == PAUSES_S[0], "one of the two is not stored"
    settling.told(KEY)
    settling.stored([KEY, OTHER], 9)
    assert appeal.pause_s(REFUSED, 8) == PAUSES_S[1]
    settling.stored([KEY], 12)
    assert appeal.pause_s(REFUSED, 9) is None, "the third came later"


def test_another_key_is_not_concerned() -> None:
    assert told().appeal(OTHER).pause_s(REFUSED, 0) is None


def test_what_is_remembered_is_bounded() -> None:
    settling = told()
    for number in range(KEYS_MAX):
        settling.told(KeyId(str(number)))
    settling.stored([KEY], 7)
    assert settling.appeal(KEY).pause_s(REFUSED, 0) is None
    assert settling.appeal(KeyId("1")).pause_s(REFUSED, 0) is not None
