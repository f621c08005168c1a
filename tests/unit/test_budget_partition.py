"""One partition in a process: when it is ready, when it owns, and what it gives back."""

import asyncio

import pytest
from structlog.testing import capture_logs

from keyforge.budget.application import partition as partitions
from keyforge.budget.errors import LeasesUnavailable
from keyforge.eventlog.memory import MemoryLog
from tests.unit.budget_facts import key_created, tenant_created
from tests.unit.budget_partition import LeasesTwin, partition_of
from tests.unit.budget_twin import CTL, append, until


async def test_it_is_not_ready_on_leases_that_it_cannot_read() -> None:
    """Not the owner, and not known whether another process is."""
    log = MemoryLog.of_partitions(1)
    await append(log, CTL, tenant_created(), key_created())
    partition = partition_of(log, LeasesTwin(readable=False))
    running = asyncio.create_task(partition.run())
    await until(lambda: partition.replica.caught_up)
    for _ in range(30):
        assert not partition.ready
        await asyncio.sleep(0.01)
    partition.stop()
    await running


async def test_it_takes_what_is_free_and_gives_it_back_at_its_end() -> None:
    log, leases = MemoryLog.of_partitions(1), LeasesTwin()
    partition = partition_of(log, leases)
    running = asyncio.create_task(partition.run())
    await until(lambda: partition.ready)
    assert (partition.owner, partition.epoch, leases.held) == (True, 1, {0: 1})
    partition.stop()
    await running
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
    running = asyncio.create_task(standby.run())
    await until(lambda: standby.replica.caught_up)
    await asyncio.sleep(0.05)
    leases.readable, readable_at = True, asyncio.get_running_loop().time()
    await until(lambda: standby.owner)
    assert asyncio.get_running_loop().time() - readable_at >= 0.4
    standby.stop()
    await running


async def test_a_lease_that_could_not_be_renewed_is_renewed_as_soon_as_that_is_possible(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(partitions, "LEASE_RENEW_S", 0.05)
    monkeypatch.setattr(partitions, "PUBLISH_PAUSE_S", 0.01)
    log, leases = MemoryLog.of_partitions(1), LeasesTwin()
    owner = partition_of(log, leases)
    running = asyncio.create_task(owner.run())
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
    await running


async def test_a_fault_that_nobody_expects_does_not_end_the_renewals(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lease would lapse, and this process own on, with nothing in its log."""
    monkeypatch.setattr(partitions, "LEASE_RENEW_S", 0.01)
    monkeypatch.setattr(partitions, "PUBLISH_PAUSE_S", 0.01)
    log, leases = MemoryLog.of_partitions(1), LeasesTwin()
    owner = partition_of(log, leases)
    running = asyncio.create_task(owner.run())
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
    await running
