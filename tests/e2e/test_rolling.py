"""Two of each service over three NATS nodes, behind balancers: restarts that nobody notices, and what a death costs."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Final

import pytest
import pytest_asyncio

from keyforge.contracts import members, subjects
from tests.e2e.balancer import Balancer
from tests.e2e.load import Agent, Load, Poller, polling
from tests.e2e.replicas import PARTITIONS, WITHIN_S, Replicas
from tests.pace import crowd

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module")]

WORST_S: Final = 12.0
"""How long the tenants of a partition may wait when the leader of its log, or its owner, is killed."""
SERVED: Final = 5
WATCHED_S: Final = 15.0
TENANTS: Final = tuple(f"tenant-{number}" for number in range(PARTITIONS))
UNAVAILABLE: Final = {"503 owner_unavailable", "503 log_unavailable", "503 policy_unavailable"}


class System:
    """The replicas, a balancer for each service, and agents: one tenant in each partition."""

    def __init__(self, replicas: Replicas, balancers: dict[str, Balancer], agents: list[Agent]) -> None:
        self.replicas = replicas
        self.balancers = balancers
        self.agents = agents

    @property
    def edge(self) -> str:
        return self.balancers[members.EDGE].url

    async def roll(self, number: int) -> None:
        """Restart one replica of each service in turn under load; nobody notices."""
        first = self.agents[0]
        asked = {
            members.KEYS: "/v1/tenants",
            members.BUDGET: f"/v1/tenants/{first.tenant}/keys/{first.key_id}/limits",
            members.AUDIT: f"/v1/spend?tenant={first.tenant}&by=key",
        }
        async with AsyncExitStack() as clients:
            operators = [
                (await clients.enter_async_context(self.replicas.operator(self.balancers[service].url)), path)
                for service, path in asked.items()
            ]
            load = Load(self.edge, self.agents, operators)
            async with load.running() as seen:
                for service in members.SERVICES:
                    name = f"{service}-{number}"
                    took_s = await asyncio.to_thread(self.replicas.restart, name)
                    print(f"{name} restarted in {took_s:.1f} s; {len(seen.failed)} failed of {dict(seen.asked)}")  # noqa: T201
                    await until(self.balancers[service].all_ready)  # as an orchestrator, before it takes the next one
        assert seen.failed == []
        assert min(seen.asked.values()) > 0

    async def settled(self) -> None:
        """Wait until everything that was reserved is settled."""
        budget = self.balancers[members.BUDGET].url
        async with asyncio.timeout(WITHIN_S):
            for agent in self.agents:
                while not await self.replicas.settled(budget, agent.tenant, agent.key_id):
                    pass


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not condition():  # noqa: ASYNC110 - other tasks go on
            await asyncio.sleep(0.1)


def report(what: str, pollers: list[Poller], killed_at: float) -> list[float]:
    """Print how long each tenant was not served; return the times of `pollers`."""
    times = [poller.longest_s(killed_at) for poller in pollers]
    refused = {poller.agent.tenant: dict(poller.refused) for poller in pollers if poller.refused}
    if times:
        print(f"{what}: median {statistics.median(times):.1f} s, worst {max(times):.1f} s; refused {refused}")  # noqa: T201
    return times


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    with Replicas(tmp_path_factory.mktemp("replicas")) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system(replicas: Replicas) -> AsyncIterator[System]:
    async with AsyncExitStack() as stack:
        balancers = {
            service: await stack.enter_async_context(Balancer(replicas.ports_of(service)))
            for service in members.SERVICES
        }
        seeded = await replicas.seed(balancers[members.KEYS].url, TENANTS)
        agents = [Agent(tenant, *found) for tenant, found in seeded.items()]
        assert {agent.partition for agent in agents} == set(range(PARTITIONS))
        system = System(replicas, balancers, agents)
        async with polling(system.edge, agents) as pollers:  # until each key is known to both edges
            await until(lambda: all(len(poller.served_at) > SERVED for poller in pollers))
        yield system


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def never_deserted(system: System) -> AsyncIterator[None]:
    """What all replicas of a service lack takes none of them out: somebody answers whoever asks, if with an error."""
    yield
    found = {service: balancer.deserted for service, balancer in system.balancers.items() if balancer.deserted}
    for balancer in system.balancers.values():
        balancer.deserted = []
    assert found == {}


async def test_a_rolling_restart_under_load_is_not_noticed(system: System) -> None:
    await system.roll(0)
    await system.settled()


async def test_a_leader_that_is_killed_costs_its_partitions_tenants_seconds_and_others_nothing(
    system: System,
) -> None:
    """Afterwards that node stays away."""
    nats = system.replicas.nats
    leaders = {
        partition: await asyncio.to_thread(nats.stream_leader, subjects.log_stream(partition))
        for partition in range(PARTITIONS)
    }
    victim = leaders[0]
    async with polling(system.edge, system.agents) as pollers:
        await asyncio.sleep(1.0)
        killed_at = time.monotonic()
        await asyncio.to_thread(victim.kill)
        await asyncio.sleep(WATCHED_S)
        affected = [poller for poller in pollers if leaders[poller.agent.partition] is victim]
        others = [poller for poller in pollers if leaders[poller.agent.partition] is not victim]
        times = report("leader killed, its partitions", affected, killed_at)
        report("leader killed, other partitions", others, killed_at)
    assert max(times) <= WORST_S * crowd()
    assert {type_ for poller in affected for type_ in poller.refused} <= UNAVAILABLE
    assert {poller.agent.tenant: dict(poller.refused) for poller in others if poller.refused} == {}


async def test_with_a_node_away_it_is_not_noticed_either(system: System) -> None:
    assert sum(node.running for node in system.replicas.nats.nodes) == 2
    await system.roll(1)
    await system.settled()


async def test_an_owner_that_is_killed_is_replaced(system: System) -> None:
    replicas = system.replicas
    owned: dict[str, set[int]] = {}
    for number in (0, 1):
        name = f"{members.BUDGET}-{number}"
        async with replicas.operator(f"http://127.0.0.1:{replicas.ports[name]}") as client:
            partitions = (await client.get("/v1/partitions")).json()["partitions"]
        owned[name] = {one["partition"] for one in partitions if one["mine"]}
    victim = max(owned, key=lambda name: len(owned[name]))
    async with polling(system.edge, system.agents) as pollers:
        await asyncio.sleep(1.0)
        killed_at = time.monotonic()
        await asyncio.to_thread(replicas.kill, victim)
        await asyncio.sleep(WATCHED_S)
        affected = [poller for poller in pollers if poller.agent.partition in owned[victim]]
        times = report(f"owner of {len(affected)} partitions killed", affected, killed_at)
        others = [poller for poller in pollers if poller not in affected]
    assert max(times) <= WORST_S * crowd()
    assert {type_ for poller in affected for type_ in poller.refused} <= UNAVAILABLE
    assert not [poller.refused for poller in others if poller.refused]
    replicas.start(victim)
    await asyncio.to_thread(replicas.wait_ready, victim)
    await system.settled()
