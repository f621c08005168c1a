"""An error is an answer until content reached the agent: it rotates, keeps status and words, costs what it should."""

import asyncio
import json
from typing import Any

import pytest

from keyforge.contracts.usage import Usage
from keyforge.edge.application.admitted_request import AdmittedRequest
from keyforge.edge.application.agent_stream import COMMENT, SILENCE_S, AgentStream
from keyforge.edge.application.dispatch import Dispatch
from keyforge.edge.application.provider_call import TimeLimits
from keyforge.edge.application.provider_errors import UpstreamError, UpstreamRedirect
from keyforge.edge.application.relay import Relay
from keyforge.edge.core.settlement.outcome import Outcome
from keyforge.edge.metrics import Metrics
from keyforge.runtime.clock import SystemClock
from tests.unit.edge_twins import EDGE, KEY, NOW, Agent, Registry, Response, Upstream, admitted, priced
from tests.unit.test_edge_relay import DONE, STOP, USAGE, WORD

GOOD = b'{"choices":[{"index":0,"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1}}'
SLOW = {"error": {"message": "slow down", "code": 429}}
TWO = (("a", "a"), ("b", "b"))
ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'


def event(document: Any) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


class Sent:
    """One request on its way through dispatch and relay."""

    def __init__(self, *answers: Response | UpstreamError, credentials: Any = TWO, **fields: Any) -> None:
        self.clock = SystemClock()
        registry = Registry(*credentials)
        self.agent, self.upstream = Agent(), Upstream(*answers)
        self.agent.began = self.clock.monotonic()
        self.outcome = Outcome(self.agent.request_id, KEY, EDGE, NOW, 60, 1)
        self.way: AdmittedRequest = admitted(
            self.agent, priced(**fields), self.outcome, deadline=self.clock.monotonic() + 60, early_head_s=0.05
        )
        self._relay = Relay(registry, self.clock, drain_s=1.0, drain_bytes_max=1024)
        self._dispatch = Dispatch(registry, self.upstream, self.clock, Metrics(), attempts_max=8, limits=TimeLimits())

    async def ended(self) -> "Sent":
        async with asyncio.timeout(60):
            if (failed := await self._dispatch.send(self.way, self._relay.take)) is not None:
                await self._relay.tell(self.way, failed)
        return self

    @property
    def error(self) -> Any:
        return json.loads(self.agent.answered)["error"]


WHOLE_ERRORS = [
    pytest.param(SLOW, id="openrouter"),
    pytest.param([{"error": {"code": 429, "message": "slow down", "status": "RESOURCE_EXHAUSTED"}}], id="gemini"),
    pytest.param({"object": "error", "message": "slow down", "type": "rate_limited", "code": "1300"}, id="mistral"),
    pytest.param({"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}}, id="anthropic"),
    pytest.param({"choices": None, "error_type": "RateLimitError", "error_message": "slow down"}, id="venice"),
    pytest.param({"choices": [{"finish_reason": "error", "error": SLOW["error"]}]}, id="in the choice"),
]


@pytest.mark.parametrize("document", WHOLE_ERRORS[:-1])
async def test_a_limit_that_a_200_carries_is_followed_by_another_credential(document: Any) -> None:
    sent = await Sent(Response(200, json.dumps(document).encode()), Response(200, GOOD)).ended()
    assert (sent.agent.status, sent.agent.answered, len(sent.upstream.calls)) == (200, GOOD, 2)
    assert sent.outcome.usage == Usage(input_tokens=3, output_tokens=1)


@pytest.mark.parametrize("document", WHOLE_ERRORS)
@pytest.mark.parametrize("before", [[], [ROLE], [b": busy\n\n" * 3]], ids=["at once", "after a role", "after comments"])
async def test_a_limit_as_the_first_event_is_followed_by_another_credential(document: Any, before: list[bytes]) -> None:
    good = Response(200, WORD, STOP % 0, USAGE, DONE)
    sent = await Sent(Response(200, *before, event(document)), good, stream=True).ended()
    assert (sent.agent.status, sent.agent.answered) == (200, WORD + STOP % 0 + DONE)
    assert sent.outcome.usage == Usage(input_tokens=3, output_tokens=1)


@pytest.mark.parametrize("stream", [False, True])
async def test_the_words_of_an_error_in_a_200_reach_the_agent_with_a_status_and_cost_nothing(stream: bool) -> None:
    document = {"error": {"message": "maximum context length is 8192", "code": 400, "type": "invalid_request_error"}}
    body = event(document) if stream else json.dumps(document).encode()
    sent = await Sent(Response(200, body), Response(200, GOOD), stream=stream).ended()
    assert (sent.agent.status, sent.error["message"]) == (400, "maximum context length is 8192")
    assert (sent.outcome.name, sent.outcome.usage, len(sent.upstream.calls)) == ("upstream_error", Usage(), 1)


@pytest.mark.parametrize("body", [b'{"id":null,"choices":null,"usage":null}', b"{}", b'{"choices":[]}'])
async def test_an_answer_without_choices_is_not_ok(body: bytes) -> None:
    sent = await Sent(Response(200, body)).ended()
    assert (sent.agent.status, sent.outcome.name, sent.outcome.usage) == (502, "upstream_malformed", None)


async def test_an_error_after_content_is_an_event_and_counts_as_spent() -> None:
    sent = await Sent(Response(200, WORD, event(SLOW)), Response(200, GOOD), stream=True).ended()
    assert sent.agent.answered == WORD + event(SLOW)
    assert (sent.agent.ended, sent.outcome.name, sent.outcome.usage) == (True, "upstream_error", None)
    assert len(sent.upstream.calls) == 1, "the agent has content: nobody else may serve it"


@pytest.mark.parametrize("status", [500, 503, 529])
async def test_a_fault_of_the_provider_may_be_repeated_and_keeps_its_time(status: int) -> None:
    answer = Response(status, b'{"error":{"message":"overloaded"}}')
    answer.headers = [(b"retry-after", b"7")]
    sent = await Sent(answer, Response(200, GOOD)).ended()
    assert (sent.agent.status, sent.error["message"]) == (status, "overloaded")
    assert sent.agent.headers[b"retry-after"] == b"7"
    assert b"x-should-retry" not in sent.agent.headers
    assert (sent.outcome.may_be_repeated, len(sent.upstream.calls)) == (True, 1)


@pytest.mark.parametrize(
    ("status", "repeatable"), [(429, True), (503, True), (502, False), (504, False), (400, False), (402, False)]
)
async def test_what_may_be_repeated_was_told_so_and_cost_nothing(status: int, repeatable: bool) -> None:
    sent = await Sent(Response(status, b'{"error":{"message":"x"}}'), credentials=[("a", "a")]).ended()
    assert sent.outcome.may_be_repeated is repeatable
    assert (sent.outcome.usage is None) == (status in (502, 504))


WHOLE = (
    b'{"id":"c","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"word"},'
    b'"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}'
)


def of_json(status: int, body: bytes) -> Response:
    answer = Response(status, body)
    answer.headers = [(b"content-type", b"application/json; charset=utf-8")]
    return answer


async def test_a_whole_answer_where_a_stream_was_asked_is_a_stream() -> None:
    sent = await Sent(of_json(200, WHOLE), stream=True).ended()
    assert (sent.agent.status, sent.agent.ended) == (200, True)
    assert sent.agent.answered.endswith(DONE)
    assert b'"content":"word"' in sent.agent.answered
    assert (sent.outcome.name, sent.outcome.usage) == ("ok", Usage(input_tokens=3, output_tokens=1))


async def test_a_stream_where_none_was_asked_is_a_whole_answer() -> None:
    sent = await Sent(Response(200, WORD + STOP % 0 + USAGE + DONE)).ended()
    [choice] = json.loads(sent.agent.answered)["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("word", "stop")
    assert (sent.outcome.name, sent.outcome.usage) == ("ok", Usage(input_tokens=3, output_tokens=1))


@pytest.mark.parametrize(
    ("answer", "stream", "name"),
    [
        (of_json(200, b'{"half":'), True, "upstream_malformed"),
        (Response(200, WORD), False, "upstream_cut"),
        (Response(200, b"no JSON"), False, "upstream_malformed"),
    ],
)
async def test_an_answer_in_the_other_form_that_is_not_whole_counts_as_spent(
    answer: Response, stream: bool, name: str
) -> None:
    sent = await Sent(answer, stream=stream).ended()
    assert (sent.outcome.name, sent.outcome.usage, sent.agent.status) == (name, None, 502)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_in_the_other_form_rotates(stream: bool) -> None:
    wrong = of_json(200, json.dumps(SLOW).encode()) if stream else Response(200, event(SLOW))
    good = Response(200, WORD, STOP % 0, USAGE, DONE) if stream else Response(200, GOOD)
    sent = await Sent(wrong, good, stream=stream).ended()
    assert (sent.outcome.name, len(sent.upstream.calls)) == ("ok", 2)


async def test_a_redirect_costs_nothing() -> None:
    sent = await Sent(UpstreamRedirect("308", sent=True, status=308)).ended()
    assert (sent.outcome.name, sent.outcome.usage) == ("upstream_redirect", Usage())


async def test_moderation_is_told_in_its_words_and_sent_once() -> None:
    body = b'{"error":{"code":403,"message":"Your input was flagged","metadata":{"reasons":["violence"]}}}'
    sent = await Sent(Response(403, body), Response(200, GOOD)).ended()
    assert (sent.agent.status, sent.agent.answered, len(sent.upstream.calls)) == (403, body, 1)


class Silent(Response):
    """A provider that is silent for a while before its first event, and after it."""

    async def __aiter__(self) -> Any:
        await asyncio.sleep(0.3)
        async for piece in super().__aiter__():
            yield piece
            await asyncio.sleep(0.3)


@pytest.mark.parametrize("last", ["ok", "error"])
async def test_a_silent_provider_does_not_leave_its_agent_in_silence(
    last: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keyforge.edge.application.agent_stream.SILENCE_S", 0.05)
    pieces = [WORD, STOP % 0, DONE] if last == "ok" else [event(SLOW)]
    sent = Sent(Silent(200, *pieces), credentials=[("a", "a")], stream=True)
    stream = sent.way.stream
    assert stream is not None

    async def keep_alive() -> None:
        while True:
            await asyncio.sleep(0.02)
            if stream.is_due(sent.clock.monotonic()):
                await stream.keep_alive(sent.clock.monotonic())

    ticks = asyncio.create_task(keep_alive())
    await sent.ended()
    ticks.cancel()
    assert sent.agent.status == 200, "the head went out before the provider's"
    assert sent.agent.answered.count(COMMENT) >= 2
    shown = sent.agent.answered.replace(COMMENT + b"\n", b"").replace(COMMENT, b"")
    if last == "ok":
        assert shown == WORD + STOP % 0 + DONE
    else:
        assert shown.startswith(b"data: {")
        assert b"upstream_rate_limited" in shown, "told in the stream, which has begun"
    assert sent.agent.ended


async def test_a_comment_does_not_end_an_event_that_is_under_way() -> None:
    agent = Agent()
    stream = AgentStream(agent, [], early_head_s=10.0)
    assert not stream.is_due(9.9)
    assert stream.is_due(10.0)
    stream.under_way = lambda: b"\n"
    await stream.show(b"data: {\n", 10.0)
    assert not stream.is_due(10.0 + SILENCE_S - 0.1)
    await stream.keep_alive(20.0)
    assert agent.answered == b"data: {\n" + COMMENT
    stream.under_way = bytes
    await stream.keep_alive(30.0)
    assert agent.answered.endswith(COMMENT + b"\n")
