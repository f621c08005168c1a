"""Group commit: in order, each item once, within the bounds, and nothing waits that need not."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyforge.eventlog.group_commit import GroupCommit


class Sink:
    """Takes groups; holds them back until released, if asked to."""

    def __init__(self, *, held: bool = False) -> None:
        self.groups: list[list[bytes]] = []
        self.faults: list[BaseException] = []
        self.at_once = 0
        self.most_at_once = 0
        self.gate = asyncio.Event()
        if not held:
            self.gate.set()

    async def send(self, group: list[bytes]) -> None:
        self.groups.append(group)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        await self.gate.wait()
        self.at_once -= 1

    @property
    def items(self) -> list[bytes]:
        return [item for group in self.groups for item in group]


def commits(send: Callable[[list[bytes]], object], sink: Sink, **bounds: float) -> GroupCommit[bytes]:
    settings: dict[str, float] = {"items_max": 4, "bytes_max": 100, "waiting_max": 50} | bounds
    return GroupCommit(send, size_of=len, failed=sink.faults.append, **settings)  # type: ignore[arg-type]


async def test_what_comes_in_one_turn_goes_together() -> None:
    sink = Sink()
    commit = commits(sink.send, sink)
    assert all(commit.add(item) for item in (b"1", b"2", b"3"))
    await commit.drain()
    assert sink.groups == [[b"1", b"2", b"3"]]


async def test_what_comes_while_one_is_in_flight_goes_next() -> None:
    sink = Sink(held=True)
    commit = commits(sink.send, sink)
    commit.add(b"1")
    await asyncio.sleep(0.01)  # the first group is in flight now
    commit.add(b"2")
    commit.add(b"3")
    await asyncio.sleep(0.01)  # and nothing else may leave
    assert (sink.groups, commit.in_flight, len(commit)) == ([[b"1"]], 1, 2)
    sink.gate.set()
    await commit.drain()
    assert sink.groups == [[b"1"], [b"2", b"3"]]


async def test_a_group_waits_for_its_tick_but_not_when_it_is_full() -> None:
    sink = Sink()
    commit = commits(sink.send, sink, tick_s=30)
    commit.add(b"1")
    await asyncio.sleep(0.01)  # far less than a tick
    assert sink.groups == []
    for item in (b"2", b"3", b"4"):
        commit.add(item)
    await asyncio.sleep(0.01)  # full now: at once
    assert sink.groups == [[b"1", b"2", b"3", b"4"]]
    commit.add(b"5")
    await commit.drain()
    assert sink.items == [b"1", b"2", b"3", b"4", b"5"]


async def test_a_tick_comes() -> None:
    sink = Sink()
    commit = commits(sink.send, sink, tick_s=0.005)
    commit.add(b"1")
    async with asyncio.timeout(60):
        while not sink.groups:  # noqa: ASYNC110 - what the tick does is looked at from outside
            await asyncio.sleep(0.001)
    assert sink.groups == [[b"1"]]


async def test_groups_that_began_apart_go_at_one_tick() -> None:
    loop, sent_at = asyncio.get_running_loop(), list[float]()
    tick_s, sink = 0.2, Sink()

    async def send(_group: list[bytes]) -> None:
        sent_at.append(loop.time())

    one, other = (commits(send, sink, tick_s=tick_s) for _ in range(2))
    await asyncio.sleep(tick_s - loop.time() % tick_s + 0.01)  # a tick has just been
    one.add(b"1")
    await asyncio.sleep(0.05)
    other.add(b"2")
    await asyncio.sleep(tick_s)
    assert len(sent_at) == 2
    assert sent_at[1] - sent_at[0] < 0.01


async def test_an_item_larger_than_a_group_goes_alone() -> None:
    sink = Sink()
    commit = commits(sink.send, sink)
    for item in (b"1", b"x" * 500, b"2"):
        commit.add(item)
    await commit.drain()
    assert sink.groups == [[b"1"], [b"x" * 500], [b"2"]]


async def test_too_many_waiting_are_refused() -> None:
    sink = Sink(held=True)
    commit = commits(sink.send, sink, waiting_max=3)
    assert [commit.add(b"%d" % i) for i in range(5)] == [True, True, True, False, False]
    sink.gate.set()
    await commit.drain()
    assert sink.items == [b"0", b"1", b"2"]


async def test_a_sender_that_fails_is_told_and_nothing_follows() -> None:
    sink = Sink()

    async def fail(group: list[bytes]) -> None:
        raise RuntimeError("no")

    commit = commits(fail, sink)
    commit.add(b"1")
    await commit.drain()
    assert [str(fault) for fault in sink.faults] == ["no"]
    assert not commit.add(b"2")


async def test_what_waits_is_in_flight_or_failed_is_unsent() -> None:
    sink = Sink(held=True)

    async def fail_the_second(group: list[bytes]) -> None:
        await sink.send(group)
        if len(sink.groups) == 2:
            raise RuntimeError("no")

    commit = commits(fail_the_second, sink, items_max=2)
    for item in (b"1", b"2", b"3", b"4", b"5"):
        commit.add(item)
    await asyncio.sleep(0.01)  # the first group is in flight now
    assert (len(commit), commit.unsent) == (3, 5)
    sink.gate.set()
    await commit.drain()
    assert (commit.unsent, len(sink.faults)) == (3, 1)


async def test_what_is_given_up_is_not_sent_and_no_fault() -> None:
    sink = Sink(held=True)
    commit = commits(sink.send, sink, items_max=2)
    for item in (b"1", b"2", b"3"):
        commit.add(item)
    await asyncio.sleep(0.01)  # the first group is in flight now
    draining = asyncio.create_task(commit.drain())
    assert commit.give_up() == 3
    async with asyncio.timeout(20):
        await draining
    sink.gate.set()
    assert (sink.groups, sink.faults, commit.add(b"4")) == ([[b"1", b"2"]], [], False)


@given(
    turns=st.lists(st.lists(st.binary(max_size=40), max_size=9), max_size=12),
    items_max=st.integers(1, 6),
    bytes_max=st.integers(1, 80),
    in_flight_max=st.integers(1, 3),
    tick_s=st.sampled_from([0.0, 0.0001]),
)
def test_every_item_once_in_order_within_the_bounds(
    turns: list[list[bytes]], items_max: int, bytes_max: int, in_flight_max: int, tick_s: float
) -> None:
    async def run() -> Sink:
        sink = Sink()
        commit = commits(
            sink.send,
            sink,
            items_max=items_max,
            bytes_max=bytes_max,
            in_flight_max=in_flight_max,
            tick_s=tick_s,
            waiting_max=1000,
        )
        for turn in turns:
            assert all(commit.add(item) for item in turn)
            await asyncio.sleep(0)
        await commit.drain()
        assert (len(commit), commit.in_flight) == (0, 0)
        return sink

    sink = asyncio.run(run())
    assert sink.items == [item for turn in turns for item in turn]
    assert sink.most_at_once <= in_flight_max
    for group in sink.groups:
        assert 1 <= len(group) <= items_max
        assert len(group) == 1 or sum(map(len, group)) <= bytes_max


def test_bounds_are_asked_for() -> None:
    with pytest.raises(TypeError, match="waiting_max"):
        GroupCommit(Sink().send, size_of=len, failed=print, items_max=1, bytes_max=1)  # type: ignore[call-arg]


async def test_a_drain_waits_for_no_tick_though_more_came_meanwhile() -> None:
    sink = Sink(held=True)
    commit = commits(sink.send, sink, tick_s=3600)
    commit.add(b"1")
    draining = asyncio.create_task(commit.drain())
    await asyncio.sleep(0.01)  # the first group is in flight now
    commit.add(b"2")
    sink.gate.set()
    async with asyncio.timeout(20):
        await draining
    assert sink.groups == [[b"1"], [b"2"]]
