"""What one request made a provider refuse is no rule for those of other agents."""

import json
from typing import Any

import pytest

from keyforge.edge.core.dialects.additions import NOTHING, Concessions
from keyforge.edge.core.dialects.openai_chat.concede import CAP_UNNAMED
from keyforge.edge.core.dialects.quirks import CapField
from tests.unit.edge_outgoing import openai_error as openai
from tests.unit.edge_outgoing import outgoing
from tests.unit.test_edge_concede import again

TGI = "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8193. Given: 5 `inputs` and 32000 more"


@pytest.mark.parametrize(
    ("body", "lower"),
    [
        pytest.param({"error": TGI, "error_type": "validation"}, 8_188, id="text-generation-inference"),
        (openai("max_tokens is too large: your prompt leaves at most 700."), 700),
        (openai("max_tokens (32000) exceeds the remaining 700 tokens"), 700),
        (openai("The total of input tokens and max_tokens must be at most 9000."), 9_000),
        (openai("messages + max_tokens is too long"), CAP_UNNAMED),
    ],
)
def test_a_cap_that_one_prompt_leaves_no_room_for_lasts_for_no_other(body: Any, lower: int) -> None:
    second = again(outgoing(), 400, body)
    assert second is not None
    assert second.sending.concessions == Concessions(cap_max=lower, cap_max_lasts=False)


@pytest.mark.parametrize("sent", ["max_tokens", "max_completion_tokens"])
def test_a_name_that_another_request_needed_is_taken_back_once(sent: CapField) -> None:
    """One model may want one name beside some parameters, and the other one without them."""
    other: CapField = "max_tokens" if sent == "max_completion_tokens" else "max_completion_tokens"
    first = outgoing(concessions=Concessions(cap_field=sent))
    second = again(first, 400, openai(f"Unsupported parameter: '{sent}' is not supported with this model.", sent))
    assert second is not None
    assert (second.sending.concessions.cap_field, json.loads(second.body)[other]) == (other, second.sending.cap)
    assert again(second, 400, openai(f"Unknown parameter: '{other}'.", other)) is None, "not back and forth"


URL = "https://x.test/{}.png"


@pytest.mark.parametrize(
    ("quoted", "told"),
    [
        ("max_tokens,exceed,1", "Error while downloading {}."),
        ("output\ntokens limited 1", "Invalid image address: {}"),
        ("stream_options-unknown", "Error while downloading {}."),
        ("unknown MAX_TO\u212aENS", "{}: cannot be loaded"),
    ],
)
def test_what_an_agent_may_have_had_quoted_is_not_remembered(quoted: str, told: str) -> None:
    """Whose picture can be loaded at the second time only, the request is taken once it was sent with less."""
    error = openai(told.format(URL.format(quoted)))
    picture = {"type": "image_url", "image_url": {"url": URL.format(quoted)}}
    second = again(outgoing(stream=True, messages=[{"role": "user", "content": [picture]}]), 400, error)
    if second is not None:
        assert second.sending.concessions.lasting() == NOTHING
    third = again(outgoing(stream=True), 400, error)
    assert third is not None
    assert third.sending.concessions.lasting() != NOTHING, "nobody else can have said it"
