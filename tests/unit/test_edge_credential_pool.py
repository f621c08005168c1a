"""Which credential serves: by weight, by turns, and which rests for whom and how long."""

from collections import Counter
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyforge.contracts.ids import CredentialId
from keyforge.edge.core.dialects.waits import wait_s
from keyforge.edge.core.routing.credential_pool import (
    COOLDOWN_S_DEFAULT,
    COOLDOWN_S_MAX,
    QUOTA_COOLDOWN_S,
    CredentialPool,
    PooledCredential,
    pause_after,
)

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def named_s(ms: str, seconds: str) -> float | None:
    """What a 429 with these headers asks to wait; empty: absent."""
    pairs = ((b"retry-after-ms", ms), (b"retry-after", seconds))
    return wait_s([(name, value.encode("utf-8", "replace")) for name, value in pairs if value], None, NOW)


def pool(*members: tuple[str, int, str]) -> CredentialPool:
    return CredentialPool(PooledCredential(CredentialId(name), weight, group) for name, weight, group in members)


KEYS = [f"key-{number:05}" for number in range(10_000)]


def chosen(of: CredentialPool, keys: list[str], now: float = 0.0, model: str = "") -> list[str | None]:
    return [of.pick(now, model, affinity=key) for key in keys]


def used(of: CredentialPool, now: float, model: str = "") -> set[str | None]:
    return set(chosen(of, KEYS[:100], now, model))


def test_the_requests_of_one_key_stay_on_one_credential() -> None:
    three = pool(("a", 1, "a"), ("b", 1, "b"), ("c", 1, "c"))
    for key in ("key", "key\0session-1", "key\0session-2", ""):
        assert len(set(chosen(three, [key] * 50))) == 1
    again = pool(("c", 1, "c"), ("a", 1, "a"), ("b", 1, "b"))
    assert chosen(three, KEYS) == chosen(again, KEYS), "every edge chooses alike, whatever order it read them in"


@pytest.mark.parametrize("weights", [(1, 1), (1, 1, 1), (3, 1), (1, 2, 5), (100, 50, 25, 25), (1,) * 10])
def test_many_keys_are_spread_by_weight(weights: tuple[int, ...]) -> None:
    counts = Counter(chosen(pool(*[(f"c{at}", weight, str(at)) for at, weight in enumerate(weights)]), KEYS))
    for at, weight in enumerate(weights):
        share = len(KEYS) * weight / sum(weights)
        assert abs(counts[CredentialId(f"c{at}")] - share) < 4 * share**0.5, "four standard deviations: 4 to 13 %"


def test_sessions_of_one_key_are_spread_too() -> None:
    three = pool(("a", 1, "a"), ("b", 1, "b"), ("c", 1, "c"))
    counts = Counter(chosen(three, [f"key\0session-{number}" for number in range(3000)]))
    assert min(counts.values()) > 850


def test_only_the_keys_of_a_member_that_went_move_and_they_are_spread() -> None:
    four = pool(*[(name, 1, name) for name in "abcd"])
    before = chosen(four, KEYS)
    four.renew([PooledCredential(CredentialId(name), 1, name) for name in "abd"])
    after = chosen(four, KEYS)
    moved = Counter(new for old, new in zip(before, after, strict=True) if old != new)
    assert sum(moved.values()) == before.count(CredentialId("c"))
    assert min(moved.values()) > 700
    four.renew([PooledCredential(CredentialId(name), 1, name) for name in "abcd"])
    assert chosen(four, KEYS) == before, "and they come back"


def test_a_key_goes_to_the_next_in_its_order_while_its_credential_rests() -> None:
    three = pool(("a", 1, "a"), ("b", 1, "b"), ("c", 1, "c"))
    for key in KEYS[:50]:
        first = three.pick(0.0, "m", affinity=key)
        assert first is not None
        second = three.pick(0.0, "m", affinity=key, tried=[first], limited=[first])
        resting = pool(("a", 1, "a"), ("b", 1, "b"), ("c", 1, "c"))
        resting.limit(first, 0.0, 10.0, "m")
        assert {resting.pick(5.0, "m", affinity=key) for _ in range(3)} == {second} != {first}
        assert resting.pick(5.0, "other", affinity=key) == first
        assert resting.pick(11.0, "m", affinity=key) == first


def test_a_group_rests_together_and_the_longer_rest_stays() -> None:
    three = pool(("a1", 1, "a"), ("a2", 1, "a"), ("b", 1, "b"))
    three.limit(CredentialId("a1"), 0.0, 30.0)
    three.limit(CredentialId("a2"), 1.0, 5.0)
    assert used(three, 10.0) == {"b"}
    assert three.pick(10.0, tried=[CredentialId("b")]) is None
    three.limit(CredentialId("b"), 10.0, 8.0)
    assert three.ready(10.0) is False
    assert three.ready_in_s(10.0) == 8.0
    assert used(three, 31.0) == {"a1", "a2", "b"}


def test_a_group_rests_for_the_model_that_was_limited_or_for_all() -> None:
    two = pool(("a", 1, "a"), ("b", 1, "b"))
    two.limit(CredentialId("a"), 0.0, 30.0, "busy")
    assert used(two, 1.0, "busy") == {"b"}
    assert used(two, 1.0, "other") == {"a", "b"}
    two.limit(CredentialId("b"), 1.0, 9.0, "busy")
    assert (two.ready(2.0, "busy"), two.ready(2.0, "other")) == (False, True)
    assert (two.ready_in_s(2.0, "busy"), two.ready_in_s(2.0, "other")) == (8.0, 0.0)
    two.limit(CredentialId("a"), 2.0, 60.0)
    assert used(two, 40.0, "other") == {"b"}, "an account without money has none for any model"
    for number in range(1000):
        two.limit(CredentialId("b"), 100.0 + number, 1.0, f"model-{number}")
    assert len(two._cooldowns) == 1, "what is over is forgotten"


def test_a_refused_credential_rests_alone_and_a_new_list_remembers() -> None:
    two = pool(("a1", 1, "a"), ("a2", 1, "a"))
    two.refuse(CredentialId("a1"), 0.0)
    two.renew([PooledCredential(CredentialId("a1"), 1, "a"), PooledCredential(CredentialId("a3"), 1, "a")])
    assert used(two, 1.0) == {"a3"}
    assert pool().ready_in_s(0.0) is None
    assert pool().pick(0.0) is None


@pytest.mark.parametrize(
    ("ms", "seconds", "exhausted", "expected_s"),
    [
        ("", "", False, COOLDOWN_S_DEFAULT),
        ("1500", "9", False, 1.5),
        ("", "7", False, 7.0),
        ("", "Wed, 21 Oct 2015 07:28:00 GMT", False, COOLDOWN_S_DEFAULT),
        ("", "Tue, 01 Jan 2030 00:00:42 GMT", False, 42.0),
        ("", "Tuesday, 01-Jan-30 00:00:42 GMT", False, 42.0),
        ("", "Tue Jan  1 00:00:42 2030", False, 42.0),
        ("", "Tue, 01 Jan 2030 02:00:42 +0200", False, 42.0),
        ("", "Tue, 01 Jan 2030 00:00:00 GMT", False, COOLDOWN_S_DEFAULT),
        ("", "Tue, 01 Jan 2036 00:00:00 GMT", False, COOLDOWN_S_MAX),
        ("", "Tue, 01 Jan 2030 00:00:42 GMT", True, QUOTA_COOLDOWN_S),
        ("1500", "Tue, 01 Jan 2030 00:00:42 GMT", False, 1.5),
        ("", "Tue, 32 Jan 2030 00:00:42 GMT", False, COOLDOWN_S_DEFAULT),
        ("", "2030-01-01T00:00:42Z", False, 42.0),
        ("", "-1", False, COOLDOWN_S_DEFAULT),
        ("", "nan", False, COOLDOWN_S_DEFAULT),
        ("", "1e30", False, COOLDOWN_S_MAX),
        ("", "", True, QUOTA_COOLDOWN_S),
        ("", "900", True, 900.0),
    ],
)
def test_cooldown(ms: str, seconds: str, exhausted: bool, expected_s: float) -> None:
    assert pause_after(named_s(ms, seconds), quota_exhausted=exhausted) == expected_s


@given(
    st.text(max_size=80),
    st.from_regex(r"(Tue, )?[0-9]{1,5} Jan [0-9]{1,6} [0-9]{1,3}:[0-9:]{1,6}( GMT| [+-][0-9]{1,5})?"),
)
def test_whatever_a_provider_says_the_rest_is_bounded(noise: str, date: str) -> None:
    for text in (noise, date, date + noise):
        assert 0 < pause_after(named_s(noise, text)) <= COOLDOWN_S_MAX


def test_one_request_asks_no_credential_and_no_limited_group_twice() -> None:
    three = pool(("a1", 1, "a"), ("a2", 1, "a"), ("b", 1, "b"))
    assert three.pick(0.0, tried=[CredentialId("a1"), CredentialId("b")]) == "a2"
    assert three.pick(0.0, limited=["a"]) == "b"
    assert three.pick(0.0, tried=[CredentialId("b")], limited=["a"]) is None


def test_no_provider_takes_a_credential_out_of_use_for_longer_than_the_bound() -> None:
    one = pool(("a", 1, "a"))
    one.limit(CredentialId("a"), 0.0, COOLDOWN_S_MAX * 9)
    assert one.ready_in_s(0.0) == COOLDOWN_S_MAX
