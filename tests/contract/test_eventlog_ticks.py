"""A reader of one control clock notices ticks that were trimmed: on the twin, on one node and on three replicas."""

import asyncio
from contextlib import aclosing

import pytest

from keyforge.eventlog import jetstream_api
from keyforge.eventlog.jetstream import JetStreamLog
from keyforge.eventlog.log import Appended, Expect, LogShrunk
from keyforge.eventlog.memory import MemoryLog
from keyforge.eventlog.ticks import TickChain, expected_of
from tests.contract.test_eventlog_log import WITHIN_S, Lab, lab

__all__ = ["lab"]


async def tick(lab: Lab, last: int) -> int:
    outcome = await lab.log.append(lab.ctl, b"tick", expect=Expect(lab.ctl, last))
    assert isinstance(outcome, Appended)
    return outcome.seq


async def trim(lab: Lab, last: int) -> None:
    """Purge everything up to `last`, as an operator may; the declared streams allow it."""
    if isinstance(lab.log, MemoryLog):
        lab.log.trim(lab.stream, last)
        return
    assert isinstance(lab.log, JetStreamLog)
    reply = await jetstream_api.call(lab.log._client, f"STREAM.PURGE.{lab.stream}", {"seq": last + 1})
    assert b'"success":true' in reply


async def ticks_between(lab: Lab) -> list[int]:
    """Three ticks with other messages before, between and after them."""
    found = [0]
    for _ in range(3):
        await lab.log.append(lab.use, b"x")
        found.append(await tick(lab, found[-1]))
    await lab.log.append(lab.use, b"x")
    return found[1:]


async def test_ticks_are_read_one_after_the_other(lab: Lab) -> None:
    found = await ticks_between(lab)
    assert [m.seq for m in await lab.take(3, subjects=[lab.ctl], ticks=True)] == found
    assert [m.seq for m in await lab.take(1, after=found[1], subjects=[lab.ctl], ticks=True)] == found[2:]
    assert [m.seq for m in await lab.take(1, after=found[1] + 1, subjects=[lab.ctl], ticks=True)] == found[2:]


@pytest.mark.parametrize("seen", [0, 1], ids=["from the beginning", "from the first tick"])
async def test_a_trimmed_tick_halts_its_reader(lab: Lab, seen: int) -> None:
    found = [0, *await ticks_between(lab)]
    await trim(lab, found[2])
    with pytest.raises(LogShrunk):
        await lab.take(1, after=found[seen], subjects=[lab.ctl], ticks=True)


async def test_a_log_whose_ticks_are_all_gone_is_not_begun_again(lab: Lab) -> None:
    """The server would store a first tick once more. So nobody appends who has folded nothing, and nobody can fold."""
    await ticks_between(lab)
    await trim(lab, await lab.log.end(lab.stream))
    assert await lab.log.last(lab.stream, lab.ctl) is None
    for how in ({}, {"subjects": [lab.ctl], "ticks": True}):
        with pytest.raises(LogShrunk):
            await lab.take(1, **how)
    assert isinstance(await lab.log.append(lab.ctl, b"again", expect=Expect(lab.ctl, 0)), Appended)


async def test_without_the_check_a_reader_goes_on_in_silence(lab: Lab) -> None:
    """Why there is a check: the server hands out what is left as if it were all."""
    found = await ticks_between(lab)
    await trim(lab, found[1])
    assert [m.seq for m in await lab.take(1, after=found[1], subjects=[lab.ctl])] == found[2:]


async def test_what_was_trimmed_before_the_last_tick_read_is_no_loss(lab: Lab) -> None:
    found = await ticks_between(lab)
    await trim(lab, found[1] - 1)
    assert [m.seq for m in await lab.take(1, after=found[1], subjects=[lab.ctl], ticks=True)] == found[2:]


async def test_a_reader_that_waits_meets_the_next_tick(lab: Lab) -> None:
    found = await ticks_between(lab)
    reading = lab.log.read(lab.stream, after=found[2] + 1, subjects=[lab.ctl], ticks=True)
    async with asyncio.timeout(WITHIN_S), aclosing(reading) as batches:
        waiting = asyncio.ensure_future(anext(batches))
        await asyncio.sleep(0)
        following = await tick(lab, found[2])
        assert [m.seq for m in await waiting] == [following]


async def test_a_message_without_a_condition_is_no_tick(lab: Lab) -> None:
    await tick(lab, 0)
    await lab.tick()
    with pytest.raises(LogShrunk, match="no tick"):
        await lab.take(2, subjects=[lab.ctl], ticks=True)


@pytest.mark.parametrize(
    ("after", "ticks", "whole"),
    [
        pytest.param(0, [(3, 0), (5, 3)], True, id="from the beginning"),
        pytest.param(0, [(5, 3)], False, id="the first is missing"),
        pytest.param(3, [(5, 3), (9, 5)], True, id="from a tick"),
        pytest.param(3, [(9, 5)], False, id="the one after it is missing"),
        pytest.param(4, [(5, 3)], True, id="from the end at that time"),
        pytest.param(4, [(5, 3), (9, 8)], False, id="one between is missing"),
        pytest.param(0, [(3, 0), (5, 3), (9, 3)], False, id="one that a later one does not name"),
        pytest.param(4, [(5, None)], False, id="no condition"),
    ],
)
def test_the_chain(after: int, ticks: list[tuple[int, int | None]], whole: bool) -> None:
    chain = TickChain("KF_LOG_0", after)
    try:
        for seq, expected in ticks:
            chain.follow(seq, expected)
    except LogShrunk:
        assert not whole
    else:
        assert whole


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"", None),
        (b"NATS/1.0\r\n\r\n", None),
        (b"NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: 12\r\n\r\n", 12),
        (b"NATS/1.0\r\nA: b\r\nnats-expected-last-subject-sequence:7\r\n\r\n", 7),
        (b"NATS/1.0\r\nNats-Expected-Last-Subject-Sequence-Subject: 9\r\n\r\n", None),
        (b"NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: -1\r\n\r\n", None),
        (b"NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: " + b"9" * 30 + b"\r\n\r\n", None),
    ],
)
def test_the_header_of_a_tick(head: bytes, expected: int | None) -> None:
    assert expected_of(head) == expected
