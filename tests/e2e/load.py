"""Agents and operators that keep calling through balancers, and what they saw of it."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from typing import Final, NamedTuple

import httpx

from tests.e2e.replicas import MODEL, WITHIN_S

REQUESTS_PER_S: Final = 20
STREAMS: Final = 20
OPERATORS_PER_S: Final = 2
CHUNKS: Final = 12
STREAM: Final = json.dumps({"chunk_delay_s": 0.25, "chunks": CHUNKS, "completion_tokens": CHUNKS})
"""Three seconds, well within the 10 s that a service that ends leaves to what is open."""
POLL_S: Final = 0.1


class Agent(NamedTuple):
    """A tenant, its key's text and id, its partition."""

    tenant: str
    key: str
    key_id: str
    partition: int

    def body(self, **fields: object) -> dict[str, object]:
        return {"model": f"sim/{MODEL}", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 20, **fields}

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}


class Seen:
    """What was asked and what failed, in words."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.failed: list[str] = []

    async def of(self, what: str, call: Callable[[], Awaitable[str]]) -> None:
        """Make a call that returns why it failed, or nothing."""
        self.asked[what] += 1
        began = time.monotonic()
        try:
            why = await call()
        except httpx.HTTPError as error:
            why = f"{type(error).__name__}: {error}"
        if why:
            self.failed.append(f"{what} at {began:.1f} after {time.monotonic() - began:.1f} s: {why}")


class Load:
    """Calls of agents to `edge`, and of operators."""

    def __init__(self, edge: str, agents: Sequence[Agent], operators: Sequence[tuple[httpx.AsyncClient, str]]) -> None:
        """`operators`: clients of the operators' APIs, and what each is asked."""
        self.seen = Seen()
        self._agents = agents
        self._operators = operators
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
        self._edge = httpx.AsyncClient(base_url=edge, timeout=WITHIN_S, limits=limits, trust_env=False)
        self._ending = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Seen]:
        """Keep calling until the end of the block; what runs then is let finish."""
        tasks = [asyncio.create_task(self._streams(number)) for number in range(STREAMS)]
        tasks.append(asyncio.create_task(self._paced(REQUESTS_PER_S, self._request)))
        tasks.append(asyncio.create_task(self._paced(OPERATORS_PER_S, self._operator)))
        try:
            yield self.seen
        finally:
            self._ending.set()
            await asyncio.gather(*tasks)
            await self._edge.aclose()

    async def _paced(self, per_s: int, call: Callable[[int], Awaitable[None]]) -> None:
        number, calls = 0, set[asyncio.Task[None]]()
        while not self._ending.is_set():
            calls.add(asyncio.ensure_future(call(number)))
            calls = {one for one in calls if not one.done()}
            number += 1
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), 1 / per_s)
        await asyncio.gather(*calls)

    async def _streams(self, number: int) -> None:
        while not self._ending.is_set():
            agent = self._agents[number % len(self._agents)]
            await self.seen.of("stream", lambda: self._stream(agent))  # noqa: B023 - awaited at once

    async def _request(self, number: int) -> None:
        agent = self._agents[number % len(self._agents)]

        async def ask() -> str:
            answer = await self._edge.post("/v1/chat/completions", json=agent.body(), headers=agent.headers)
            return "" if answer.status_code == 200 else f"{answer.status_code} {answer.text[:200]}"

        await self.seen.of("request", ask)

    async def _operator(self, number: int) -> None:
        client, path = self._operators[number % len(self._operators)]

        async def ask() -> str:
            answer = await client.get(path)
            return "" if answer.status_code == 200 else f"{path}: {answer.status_code} {answer.text[:200]}"

        await self.seen.of("operator", ask)

    async def _stream(self, agent: Agent) -> str:
        body = agent.body(stream=True, metadata={"sim": STREAM})
        call = self._edge.stream("POST", "/v1/chat/completions", json=body, headers=agent.headers)
        async with call as answer:
            text = (await answer.aread()).decode()
        if answer.status_code == 200 and text.endswith("data: [DONE]\n\n") and '"error"' not in text:
            return ""
        return f"{answer.status_code} {text[-300:]}"


class Poller:
    """One agent that asks again and again: when it was served, and what it was refused with."""

    def __init__(self, client: httpx.AsyncClient, agent: Agent) -> None:
        self.agent = agent
        self.served_at = [time.monotonic()]
        self.refused: Counter[str] = Counter()
        self._client = client

    async def run(self) -> None:
        while True:
            answer = await self._client.post("/v1/chat/completions", json=self.agent.body(), headers=self.agent.headers)
            if answer.status_code == 200:
                self.served_at.append(time.monotonic())
            else:
                self.refused[f"{answer.status_code} {answer.json()['error']['type']}"] += 1
            await asyncio.sleep(POLL_S)

    def longest_s(self, after: float) -> float:
        """Return the longest time without an answer since `after`, the present one included."""
        times = [after, *(at for at in self.served_at if at > after), time.monotonic()]
        return max(later - earlier for earlier, later in pairwise(times))


@asynccontextmanager
async def polling(edge: str, agents: Sequence[Agent]) -> AsyncIterator[list[Poller]]:
    """Let each agent ask again and again until the end of the block."""
    async with httpx.AsyncClient(base_url=edge, timeout=WITHIN_S, trust_env=False) as client:
        pollers = [Poller(client, agent) for agent in agents]
        tasks = [asyncio.create_task(poller.run()) for poller in pollers]
        try:
            yield pollers
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in tasks:
            if not task.cancelled():
                task.result()
