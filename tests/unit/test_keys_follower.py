"""The follower of a control subject: it reads it as a chain of ticks."""

import asyncio
from datetime import UTC, datetime

import pytest

from keyforge.contracts import frame, subjects
from keyforge.contracts.events import PartitionFenced
from keyforge.contracts.frame import Recorded
from keyforge.contracts.ids import OwnerId
from keyforge.eventlog.log import LogShrunk
from keyforge.eventlog.memory import MemoryLog
from keyforge.keys.outbound.follower import Follower
from keyforge.testkit.ticks import append_tick

NOW = datetime(2030, 1, 1, tzinfo=UTC)
FENCE = frame.encode([Recorded("f", "budget", NOW, PartitionFenced(partition=0, epoch=1, owner=OwnerId("b")))])


async def test_a_message_that_is_no_tick_is_not_folded() -> None:
    """Without the chain of ticks, a fact that was trimmed away would be passed over in silence."""
    log, subject = MemoryLog.of_partitions(1), subjects.ctl(0)
    await append_tick(log, 0, FENCE)
    await log.append(subject, FENCE)
    follower = Follower(log, subjects.log_stream(0), subject, on_foreign=lambda _: pytest.fail("folded"))
    with pytest.raises(LogShrunk, match="is no tick"):
        async with asyncio.timeout(30):
            await follower.run()
    assert follower.folded == 0
