"""What reaches the agent of a provider's answer, and what is noted of it."""

import asyncio
from typing import Any

import pytest

from keyforge.contracts.events import Attempt
from keyforge.contracts.ids import CredentialId
from keyforge.contracts.usage import Usage
from keyforge.edge.application.dispatch import note
from keyforge.edge.application.relay import Relay
from keyforge.edge.core.dialects.failure import Failure
from keyforge.edge.core.settlement.outcome import Outcome
from keyforge.runtime.clock import SystemClock
from tests.unit.edge_twins import EDGE, KEY, NOW, Agent, Registry, Response, admitted, priced, secret

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
        self.priced = priced(**fields)
        self.outcome = Outcome(self.agent.request_id, KEY, EDGE, NOW, 60, 1)
        self.way = admitted(self.agent, self.priced, self.outcome, deadline=clock.monotonic() + 60)
        self.running = self.way.running
        self.outcome.tried(Attempt(credential=CREDENTIAL, status=200, sent=True, duration_ms=1))
        self._relay = Relay(Registry(("c", "g")), clock, drain_s=1.0, drain_bytes_max=1024)

    async def whole(self, answer: Response) -> bytes:
        """Return what the agent gets, where no other credential is tried."""
        gone = asyncio.ensure_future(self.agent.gone())
        gone.add_done_callback(lambda _: self.running.leave(1.0))
        await asyncio.sleep(0)
        async with asyncio.timeout(60):
            if (failed := await self._relay.take(self.way, answer)) is not None:
                if isinstance(failed, Failure):
                    note(self.outcome, failed)
                await self._relay.tell(self.way, failed)
        gone.cancel()
        return self.agent.answered

    async def stream(self, *pieces: bytes, status: int = 200) -> bytes:
        return await self.whole(Response(status, *pieces))


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
    assert b"no such key: [redacted]" in answered
    assert relayed.agent.status == (200 if pieces else 502), "what began as a stream ends with the error in it"
    assert relayed.outcome.name == "upstream_error"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b'{"choices":[{"note":"%s"}]}'),
        (200, b'{"choices":[{}],"error":{"message":"no key %s"}}'),
        (400, b'{"error":{"message":"no key %s"}}'),
        (400, b"no key %s"),
    ],
)
async def test_a_credential_in_a_whole_answer_is_redacted(status: int, body: bytes) -> None:
    answered = await Relayed().whole(Response(status, body % secret(CREDENTIAL)))
    assert secret(CREDENTIAL) not in answered
    assert b"[redacted]" in answered


async def test_a_revocation_between_the_reserve_and_the_first_byte_cuts_the_stream() -> None:
    relayed = Relayed(stream=True)
    relayed.running.cut("stream_revoked")
    answered = await relayed.stream(*[WORD] * 1000, STOP % 0, DONE)
    assert relayed.outcome.name == "stream_revoked"
    assert answered.count(b"word") < 1000
    assert b"stream_revoked" in answered
