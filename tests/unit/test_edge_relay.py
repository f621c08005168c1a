"""What reaches the agent of a provider's answer, and what is noted of it."""

import asyncio
from typing import Any

import pytest

from keyforge.contracts.events import Attempt
from keyforge.contracts.ids import CredentialId
from keyforge.contracts.usage import Usage
from keyforge.edge.application.relay import Relay
from keyforge.edge.application.running import RunningRequests
from keyforge.edge.core.settlement.outcome import Outcome
from keyforge.runtime.clock import SystemClock
from tests.unit.edge_twins import EDGE, KEY, NOW, Agent, Registry, Response, priced, secret

CREDENTIAL = CredentialId("c")
WORD = b'data: {"choices":[{"index":0,"delta":{"content":"word"}}]}\n\n'
STOP = b'data: {"choices":[{"index":%d,"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}\n\n'
DONE = b"data: [DONE]\n\n"


class Relayed:
    """A relay with one request that was dispatched."""

    def __init__(self, **fields: Any) -> None:
        clock = SystemClock()
        self.agent = Agent()
        self.running = RunningRequests().entered(KEY)
        self.priced = priced(**fields)
        self.outcome = Outcome(self.agent.request_id, KEY, EDGE, NOW, 60, 1)
        self.outcome.tried(Attempt(credential=CREDENTIAL, status=200, sent=True, duration_ms=1))
        self._relay = Relay(Registry(("c", "g")), clock, drain_s=1.0, drain_bytes_max=1024)
        self._deadline = clock.monotonic() + 60

    async def whole(self, answer: Response) -> bytes:
        await self._relay.hand_over(self.agent, self.priced, answer, self.outcome)
        return self.agent.answered

    async def stream(self, *pieces: bytes, status: int = 200) -> bytes:
        answer = Response(status, *pieces)
        async with asyncio.timeout(60):
            await self._relay.stream(self.agent, self.priced, answer, self.outcome, self.running, self._deadline)
        return self.agent.answered


async def test_a_stream_is_passed_on_and_its_usage_noted() -> None:
    relayed = Relayed(stream=True)
    assert await relayed.stream(WORD, STOP % 0, USAGE, DONE) == WORD + STOP % 0 + DONE
    assert (relayed.outcome.name, relayed.outcome.usage) == ("ok", Usage(input_tokens=3, output_tokens=1))
    assert relayed.agent.ended


async def test_a_stream_of_two_completions_ends_with_both_of_them() -> None:
    relayed = Relayed(stream=True, n=2)
    await relayed.stream(WORD, STOP % 0)
    assert relayed.outcome.name == "upstream_cut", "the second one is missing"
    relayed = Relayed(stream=True, n=2)
    await relayed.stream(WORD, STOP % 0, STOP % 1)
    assert relayed.outcome.name == "ok"


@pytest.mark.parametrize("pieces", [[], [WORD]])
async def test_a_credential_in_an_error_of_a_stream_is_redacted(pieces: list[bytes]) -> None:
    error = b'{"error":{"message":"no such key: %s"}}' % secret(CREDENTIAL)
    relayed = Relayed(stream=True)
    answered = await relayed.stream(*pieces, b"data: %s\n\n" % error)
    assert secret(CREDENTIAL) not in answered
    assert (b"no such key: [redacted]" in answered) == bool(pieces), "what began as a stream ends with the error in it"
    assert relayed.outcome.name == "upstream_error"


@pytest.mark.parametrize("status", [200, 400])
async def test_a_credential_in_a_whole_answer_is_redacted(status: int) -> None:
    body = b'{"choices":[],"error":"%s"}' % secret(CREDENTIAL)
    assert await Relayed().whole(Response(status, body)) == b'{"choices":[],"error":"[redacted]"}'


async def test_a_revocation_between_the_reserve_and_the_first_byte_cuts_the_stream() -> None:
    relayed = Relayed(stream=True)
    relayed.running.cut("stream_revoked")
    answered = await relayed.stream(*[WORD] * 1000, STOP % 0, DONE)
    assert relayed.outcome.name == "stream_revoked"
    assert answered.count(b"word") < 1000
    assert b"stream_revoked" in answered
