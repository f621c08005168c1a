"""What `declare` does while one of the servers does not say what it can store."""

import asyncio
from collections.abc import Callable

import pytest

from keyforge.contracts import subjects
from keyforge.embedded.declare import declare as declare_at
from keyforge.embedded.errors import SettingError
from keyforge.embedded.sizes import LogSize
from keyforge.testkit.made_with import made_with
from keyforge.testkit.nats_client import until
from keyforge.testkit.nats_server import NatsNode

StartNode = Callable[..., NatsNode]

MIB = 1024 * 1024
PARTITIONS = 2
LOGS = [subjects.log_stream(0), subjects.log_stream(1), subjects.PLATFORM_STREAM, subjects.AUDIT_STREAM]


async def test_a_server_that_is_away_holds_up_only_what_needs_room(nats_own: StartNode) -> None:
    """One of two: streams that are as large as they are to be are left alone, a raise waits until it answers."""
    node, late = nats_own(), nats_own()
    late.kill()
    told: list[str] = []

    async def declared(total: int | None, monitors: tuple[str, ...]) -> list[str]:
        done = await declare_at(
            node.url,
            user="",
            password="",
            made_with=made_with(PARTITIONS),
            replicas=1,
            size=LogSize(total, monitor_urls=monitors),
            report=told.append,
        )
        return [one.stream for one in done.raised]

    both = (node.monitor_url, late.monitor_url)
    why = f"KEYFORGE_NATS_MONITOR_URL: {late.monitor_url}/varz cannot be read (ConnectionRefusedError)"
    creating = asyncio.create_task(declared(20 * MIB, both))
    await until(lambda: asyncio.sleep(0, told))
    assert [line.startswith(f"waiting for the log: {why}") for line in told] == [True]
    creating.cancel()
    await asyncio.wait([creating])
    await declared(20 * MIB, both[:1])
    for total in (20 * MIB, 16 * MIB, None):
        told.clear()
        assert await declared(total, both) == []
        assert [line.startswith(why) and line.endswith("sizes stay as they are") for line in told] == [True]
    with pytest.raises(SettingError, match="cannot be read"):
        await declared(20 * MIB, both[1:])
    raising = asyncio.create_task(declared(40 * MIB, both))
    await asyncio.sleep(1)
    assert not raising.done()
    await asyncio.to_thread(late.start)
    assert set(await raising) == set(LOGS)
