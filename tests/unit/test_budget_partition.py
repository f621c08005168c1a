"""One partition in a process: when it is ready, when it owns, and what it gives back."""

import asyncio
from contextlib import suppress

import pytest
from structlog.testing import capture_logs

from keyforge.budget.application import partition as partitions
from keyforge.budget.application.ports import LeaseHolder
from keyforge.budget.errors import LeasesUnavailable, NotListening
from keyforge.eventlog.memory import MemoryLog
from tests.unit.budget_facts import key_created, tenant_created
from tests.unit.budget_partition import LeasesTwin, partition_of, running
from tests.unit.budget_twin import CTL, append, until


async def test_it_is_not_ready_on_leases_that_it_cannot_read() -> None:
    """Not the owner, and not known whether another process is."""
    log = MemoryLog.of_partitions(1)
    await append(log, CTL, tenant_created(), key_created())
    partition = partition_of(log, LeasesTwin(readable=False))
    task = asyncio.create_task(partition.run())
    await until(lambda: partition.replica.caught_up)
    for _ in range(30):
        assert not partition.ready
        await asyncio.sleep(0.01)
    partition.stop()
    await task


class HandedOver(LeasesTwin):
    """Leases that another process holds until `says` is something else; ours is published once `go` is set."""

    def __init__(self, says: LeaseHolder) -> None:
        super().__init__()
        self.says, self.go = says, asyncio.Event()

    async def holder(self, partition: int) -> LeaseHolder:
        return await super().holder(partition) if partition in self.held else self.says

    async def publish(self, partition: int, epoch: int) -> bool:
        await self.go.wait()
        return await super().publish(partition, epoch)


@pytest.mark.parametrize("within_s", [60.0, 0.0], ids=["in time", "too long"])
async def test_a_standby_stays_ready_while_it_takes_over(within_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one ends, so it is not ready either: operators would be answered by nobody."""
    monkeypatch.setattr(partitions, "LEASE_CHECK_S", 0.01)
    monkeypatch.setattr(partitions, "HANDOVER_S", within_s)
    leases = HandedOver("another")
    standby = partition_of(MemoryLog.of_partitions(1), leases)
    async with running(standby):
        await until(lambda: standby.ready)
        leases.says = "given_back"
        while standby.epoch == 0:
            assert standby.ready or not within_s
            await asyncio.sleep(0)
        assert (standby.owner, standby.ready) == (False, within_s > 0)
        leases.go.set()
        await until(lambda: standby.owner)
        assert standby.ready


class Unwritable(LeasesTwin):
    """Leases that can be read and not written."""

    def __init__(self) -> None:
        super().__init__()
        self.says: LeaseHolder = "another"

    async def holder(self, partition: int) -> LeaseHolder:
        await asyncio.sleep(0)
        return self.says

    async def publish(self, partition: int, epoch: int) -> bool:
        await asyncio.sleep(0)
        raise LeasesUnavailable(f"takes nothing: {partition}, {epoch}")


async def test_two_that_fence_each_other_and_cannot_serve_are_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"LEASE_CHECK_S": 0.01, "DEPOSED_PAUSE_S": 0.01, "HANDOVER_S": 0.3}.items():
        monkeypatch.setattr(partitions, name, value)
    log, leases = MemoryLog.of_partitions(1), (Unwritable(), Unwritable())
    one, other = (partition_of(log, mine) for mine in leases)
    async with running(one, other):
        await until(lambda: one.ready and other.ready)
        for mine in leases:
            mine.says = "none"
        await until(lambda: not one.ready and not other.ready)
        epoch = one.epoch
        while one.epoch < epoch + 4:
            assert not one.ready
            assert not other.ready
            await asyncio.sleep(0.001)


class LosesCancellation(LeasesTwin):
    """Leases whose answer comes in the turn in which who renews is cancelled: see `runtime.tasks`."""

    def __init__(self) -> None:
        super().__init__()
        self.renewing = asyncio.Event()

    async def publish(self, partition: int, epoch: int) -> bool:
        if self.held:
            self.renewing.set()
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(3600)
        return await super().publish(partition, epoch)


async def test_an_owner_that_ends_while_it_renews_gives_its_lease_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions, "LEASE_RENEW_S", 0.01)
    leases = LosesCancellation()
    async with running(partition_of(MemoryLog.of_partitions(1), leases)):
        await leases.renewing.wait()
    assert leases.given_back == [(0, 1)]


async def test_an_owner_that_cannot_listen_on_its_next_epoch_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions, "PUBLISH_PAUSE_S", 0.01)
    monkeypatch.setattr(partitions, "LEASE_RENEW_S", 0.01)
    monkeypatch.setattr(partitions, "HANDOVER_S", 0.3)
    owner, tried = partition_of(MemoryLog.of_partitions(1), LeasesTwin()), 0

    async def deaf(epoch: int) -> None:
        nonlocal tried
        tried += 1
        raise NotListening(f"epoch {epoch}")

    async with running(owner):
        await until(lambda: owner.owner)
        session = owner._session
        assert session is not None
        monkeypatch.setattr(session.listener, "listen", deaf)
        await session.leadership.take(owner._clock.now)
        await until(lambda: owner.ready)
        await until(lambda: not owner.ready)
        before = tried
        while tried < before + 5:
            assert not owner.ready
            await asyncio.sleep(0.001)
        for _ in range(3):  # of epochs that nobody serves, none is a handover
            await session.leadership.take(owner._clock.now)
            before = tried
            while tried < before + 5:
                assert not owner.ready
                await asyncio.sleep(0.001)


async def test_it_is_not_ready_before_it_owns_what_nobody_owned() -> None:
    leases = HandedOver("none")
    first = partition_of(MemoryLog.of_partitions(1), leases)
    async with running(first):
        await until(lambda: first.epoch > 0)
        assert not first.ready
        leases.go.set()
        await until(lambda: first.ready)


async def test_who_was_deposed_stands_by() -> None:
    log = MemoryLog.of_partitions(1)
    owner, other = partition_of(log, LeasesTwin()), partition_of(log, LeasesTwin())
    async with running(owner):
        await until(lambda: owner.owner)
        async with running(other):
            await until(lambda: other.owner and not owner.owner)
            assert owner.ready


async def test_it_takes_what_is_free_and_gives_it_back_at_its_end() -> None:
    log, leases = MemoryLog.of_partitions(1), LeasesTwin()
    partition = partition_of(log, leases)
    task = asyncio.create_task(partition.run())
    await until(lambda: partition.ready)
    assert (partition.owner, partition.epoch, leases.held) == (True, 1, {0: 1})
    partition.stop()
    await task
    assert leases.given_back == [(0, 1)]
    assert not partition.owner


async def test_leases_that_were_away_have_forgotten_what_their_owners_still_hold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A standby leaves the owner time to renew: it could not while the bucket was away."""
    monkeypatch.setattr(partitions, "LEASE_CHECK_S", 0.01)
    monkeypatch.setattr(partitions, "LEASE_PATIENCE_S", 0.5)
    log, leases = MemoryLog.of_partitions(1), LeasesTwin(readable=False)
    standby = partition_of(log, leases)
    task = asyncio.create_task(standby.run())
    await until(lambda: standby.replica.caught_up)
    await asyncio.sleep(0.05)
    leases.readable, readable_at = True, asyncio.get_running_loop().time()
    await until(lambda: standby.owner)
    assert asyncio.get_running_loop().time() - readable_at >= 0.4
    standby.stop()
    await task


async def test_a_lease_that_could_not_be_renewed_is_renewed_as_soon_as_that_is_possible(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(partitions, "LEASE_RENEW_S", 0.05)
    monkeypatch.setattr(partitions, "PUBLISH_PAUSE_S", 0.01)
    log, leases = MemoryLog.of_partitions(1), LeasesTwin()
    owner = partition_of(log, leases)
    task = asyncio.create_task(owner.run())
    await until(lambda: owner.owner)
    tried, publish = 0, leases.publish

    async def away(partition: int, epoch: int) -> bool:
        nonlocal tried
        tried += 1
        raise LeasesUnavailable(f"no answer for {partition}, {epoch}")

    leases.publish = away  # type: ignore[method-assign]
    await until(lambda: tried > 0)
    monkeypatch.setattr(partitions, "LEASE_RENEW_S", 60.0)  # what it would wait after a renewal
    await until(lambda: tried > 3)
    assert owner.owner, "safety is the fence's: who cannot renew its lease serves on"
    leases.held.clear()
    leases.publish = publish  # type: ignore[method-assign]
    await until(lambda: leases.held == {0: 1})
    owner.stop()
    await task


async def test_a_fault_that_nobody_expects_does_not_end_the_renewals(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lease would lapse, and this process own on, with nothing in its log."""
    monkeypatch.setattr(partitions, "LEASE_RENEW_S", 0.01)
    monkeypatch.setattr(partitions, "PUBLISH_PAUSE_S", 0.01)
    log, leases = MemoryLog.of_partitions(1), LeasesTwin()
    owner = partition_of(log, leases)
    task = asyncio.create_task(owner.run())
    await until(lambda: owner.owner)
    publish, tried = leases.publish, 0

    async def broken(partition: int, epoch: int) -> bool:
        nonlocal tried
        tried += 1
        raise ValueError(f"odd: {partition}, {epoch}")

    leases.publish = broken  # type: ignore[method-assign]
    with capture_logs() as lines:
        await until(lambda: tried > 1)
    assert {(line["event"], line["log_level"]) for line in lines} == {("lease not renewed", "error")}
    leases.held.clear()
    leases.publish = publish  # type: ignore[method-assign]
    await until(lambda: leases.held == {0: 1})
    owner.stop()
    await task
