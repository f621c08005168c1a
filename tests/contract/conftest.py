"""What the contracts of keys share: a log and what is around a command queue, on each backend or in memory alone."""

from collections.abc import AsyncIterator

import pytest

from keyforge.testkit.nats_client import partition_log
from tests.contract.keys_queues import Lab, memory_log


@pytest.fixture(params=["memory", "node", pytest.param("cluster", marks=pytest.mark.cluster)])
async def lab(request: pytest.FixtureRequest, partition: int) -> AsyncIterator[Lab]:
    """The log of a partition: the twin, a node, and three replicas."""
    if request.param == "memory":
        yield Lab(memory_log(partition), partition)
        return
    async with partition_log(request.getfixturevalue(f"nats_{request.param}"), partition) as log:
        yield Lab(log, partition)


@pytest.fixture
def twin(partition: int) -> Lab:
    """The twin alone, for faults that only it can be told to have."""
    return Lab(memory_log(partition), partition)
