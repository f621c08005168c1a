"""What was published of a log, what was withheld, and what the fold made of it: nothing is missing without a word."""

import pytest

from keyforge.audit.outbound.publish_balance import PublishBalance


@pytest.mark.parametrize(
    ("published", "withheld", "missing"),
    [
        pytest.param(10, 0, 0, id="all are published"),
        pytest.param(8, 2, 0, id="some are withheld"),
        pytest.param(8, 0, 2, id="some were never seen"),
        pytest.param(7, 1, 2, id="both"),
        pytest.param(8, 300, 0, id="made-up rows are withheld as well"),
    ],
)
def test_what_is_neither_published_nor_withheld_is_missing_once(published: int, withheld: int, missing: int) -> None:
    balance = PublishBalance(1)
    balance.begin({0: published})
    balance.withhold(0, withheld)
    balance.fold(0, 5, 10, done=0)
    assert balance.missing(0, 4) == 0, "nothing is known of message 4"
    assert balance.missing(0, 5) == missing
    assert balance.missing(0, 5) == 0, "once"
    balance.fold(0, 7, 13, done=5)
    balance.set(0, 11)
    assert balance.missing(0, 7) == 2, "the next ones"


def test_what_is_missing_before_a_record_that_is_published_is_counted_once() -> None:
    balance = PublishBalance(1)
    balance.begin({0: 7})
    assert balance.publish(0, 2, None) == 0, "read from the store: not known"
    balance.withhold(0, 1)
    assert balance.publish(0, 2, 15) == 3
    assert balance.records(0) == 15
    assert balance.publish(0, 1, 16) == 0
    assert balance.publish(0, 4, 16) == 0, "published after all, as a rebuild found them"
    assert balance.records(0) == 16
    balance.fold(0, 9, 16, done=0)
    assert balance.missing(0, 9) == 0


def test_what_the_fold_made_is_kept_no_longer_than_it_is_asked_for() -> None:
    balance = PublishBalance(1)
    for sequence in range(1, 1001):
        balance.fold(0, sequence, sequence, done=sequence - 1)
        balance.fold(1, sequence, sequence, done=0)  # the platform's
    assert len(balance._logs[0].folded) <= 2
    balance.set(0, 1000)
    assert balance.missing(0, 1000) == 0
    balance.begin({0: 0})
    assert balance.missing(0, 1000) == 1000, "another stream: everything is to be published again"
