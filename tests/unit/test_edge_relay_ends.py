"""How answers end: what is settled and committed to is what came, and the agent is told how it ended."""

import json
from typing import Any

import pytest

from keyforge.contracts.events import RequestCompleted
from keyforge.contracts.usage import Usage
from keyforge.edge.application.provider_errors import UpstreamCut
from tests.unit.edge_twins import Response, secret
from tests.unit.test_edge_relay import CREDENTIAL, DONE, STOP, USAGE, WORD, Relayed


def event(relayed: Relayed) -> RequestCompleted:
    found = relayed.outcome.event(1)
    assert isinstance(found, RequestCompleted)
    return found


def shown(answered: bytes) -> Any:
    return json.loads(answered)["error"]["type"]


async def streamed(relayed: Relayed, answer: Response) -> Response:
    await relayed.whole(answer)
    return answer


async def test_what_is_committed_to_is_what_came_and_not_what_was_shown() -> None:
    relayed = Relayed()
    body = b'{"choices":[{"note":"%s"}]}' % secret(CREDENTIAL)
    assert await relayed.whole(Response(200, body)) != body
    assert relayed.outcome.response_commitment == relayed.priced.commitments.of_response(body)
    relayed = Relayed(stream=True)
    await relayed.stream(WORD, STOP % 0, USAGE, DONE)
    whole = relayed.priced.commitments.of_response(WORD + STOP % 0 + USAGE + DONE)
    assert relayed.outcome.response_commitment == whole


@pytest.mark.parametrize(
    ("pieces", "name"),
    [
        pytest.param([WORD] * 2 + [STOP % 0], "ok", id="as many tokens as were reserved"),
        pytest.param([WORD] * 99 + [STOP % 0], "ok", id="many chunks may be one token"),
        pytest.param([WORD.replace(b"word", b"x" * 2_000), STOP % 0], "ok", id="many bytes may be one token"),
        pytest.param([WORD.replace(b"word", b"x" * 2_000)] * 10, "stream_over_reservation", id="more"),
    ],
)
async def test_a_stream_is_cut_where_it_surely_has_more_tokens_than_were_reserved(
    pieces: list[bytes], name: str
) -> None:
    relayed = Relayed(stream=True, max_tokens=2)
    await relayed.stream(*pieces)
    assert relayed.outcome.name == name


@pytest.mark.parametrize(("pieces", "left"), [(3, 0), (1000, 900)], ids=["a little", "more than is read"])
async def test_what_is_read_for_an_agent_that_has_gone_is_bounded(pieces: int, left: int) -> None:
    relayed = Relayed(stream=True)
    relayed.agent.hung_up.set()
    answer = await streamed(relayed, Response(200, *[WORD] * pieces, STOP % 0, USAGE, DONE))
    assert len(answer._pieces) >= left
    assert relayed.outcome.name == "agent_gone"
    assert (relayed.outcome.usage is None) == bool(left)


@pytest.mark.parametrize("pieces", [[WORD], [WORD, USAGE], [WORD, WORD]])
async def test_a_stream_that_ends_before_its_end_is_cut_and_what_it_used_is_not_known(pieces: list[bytes]) -> None:
    relayed = Relayed(stream=True)
    answered = await relayed.stream(*pieces)
    assert relayed.outcome.name == "upstream_cut"
    assert b"upstream_cut" in answered
    assert (event(relayed).usage, event(relayed).usage_source) == (None, "bound")


@pytest.mark.parametrize(("pieces", "name"), [([WORD, STOP % 0, DONE], "ok"), ([WORD], "upstream_cut")])
async def test_a_connection_that_breaks_matters_before_the_end_alone(pieces: list[bytes], name: str) -> None:
    relayed = Relayed(stream=True)
    answer = await streamed(relayed, Response(200, *pieces, error=UpstreamCut("reset", sent=True)))
    assert relayed.outcome.name == name
    assert answer.abandoned


@pytest.mark.parametrize("status", [400, 404, 500, 503])
async def test_an_error_is_the_agents_to_read_with_its_status(status: int) -> None:
    relayed = Relayed()
    body = b'{"error":{"message":"no"}}'
    answered = await relayed.whole(Response(status, body))
    assert (relayed.agent.status, answered) == (status, body)
    assert event(relayed).usage == Usage()


@pytest.mark.parametrize("body", [b"[" + b"1," * 40_000 + b"1]", b"no JSON", b"[]"], ids=["large", "text", "a list"])
async def test_an_error_that_no_client_reads_is_not_handed_on(body: bytes) -> None:
    assert shown(await Relayed().whole(Response(400, body))) == "upstream_error"


async def test_an_answer_that_cannot_be_read_counts_as_spent() -> None:
    relayed = Relayed()
    assert shown(await relayed.whole(Response(200, b"no JSON"))) == "upstream_malformed"
    assert (event(relayed).usage, event(relayed).usage_source) == (None, "bound")


@pytest.mark.parametrize(("status", "usage"), [(200, None), (400, Usage())], ids=["an answer", "an error"])
async def test_an_answer_that_breaks_off_counts_as_spent_unless_it_was_an_error(
    status: int, usage: Usage | None
) -> None:
    relayed = Relayed()
    answered = await relayed.whole(Response(status, b'{"choices":', error=UpstreamCut("reset", sent=True)))
    assert shown(answered) == ("upstream_cut" if status == 200 else "upstream_error")
    assert event(relayed).usage == usage
