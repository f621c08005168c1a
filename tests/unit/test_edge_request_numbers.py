"""Numbers reach a provider as the agent wrote them: integers as integers, others with their value, as JSON has them."""

import json
import re
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyforge.contracts.directory import PriceEntry
from keyforge.contracts.errors import Problem
from keyforge.contracts.ids import ModelName, PriceId
from keyforge.edge.core.judge import OutgoingRequest, outgoing_for
from keyforge.edge.core.routing.catalogue import Route
from tests.unit.edge_twins import CHAT, FREE, KEY, PROVIDER

JSON_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
"""RFC 8259, section 6."""
SAMPLING = (
    "temperature", "top_p", "frequency_penalty", "presence_penalty", "top_k", "top_a", "min_p", "repetition_penalty",
)  # fmt: skip


def sent(fields: str) -> dict[str, Any] | Problem:
    """Return what a provider gets of a request with these members, its numbers as text."""
    parsed = CHAT.parse(b'{"model":"m","messages":[{"role":"user","content":"a"}],%s}' % fields.encode())
    if isinstance(parsed, Problem):
        return parsed
    price = PriceEntry(price_id=PriceId("p"), prices=FREE, max_output_tokens=None, context_tokens=None)
    found = outgoing_for(CHAT, parsed, Route(PROVIDER, ModelName("m"), "other", price), KEY)
    assert isinstance(found, OutgoingRequest), found
    body: dict[str, Any] = json.loads(found.body, parse_int=str, parse_float=str)
    return body


def number(field: str, text: str) -> str:
    body = sent(f'"{field}":{text}')
    assert isinstance(body, dict), body
    return str(body[field])


@pytest.mark.parametrize("field", SAMPLING)
@pytest.mark.parametrize("text", ["0", "1", "2", "40", "-1", "-2"])
def test_an_integer_stays_an_integer(field: str, text: str) -> None:
    assert number(field, text) == text


@pytest.mark.parametrize("field", ["seed", "random_seed"])
@pytest.mark.parametrize("text", ["0", "42", str(2**53 + 1), str(2**63 - 1), str(2**64 - 1), str(-(2**63))])
def test_a_seed_has_64_bits(field: str, text: str) -> None:
    """By the provider's name for it."""
    body = sent(f'"{field}":{text}')
    assert isinstance(body, dict), body
    assert (body["seed"], "random_seed" in body) == (text, False)


@pytest.mark.parametrize("text", ["2", "3", "128"])
def test_how_many_completions_is_an_integer(text: str) -> None:
    assert number("n", text) == text


def test_a_bias_keeps_its_form() -> None:
    body = sent('"logit_bias":{"1":-100,"2":100,"3":0.5,"4":1e-7,"5":-0.0}')
    assert isinstance(body, dict)
    assert body["logit_bias"] == {"1": "-100", "2": "100", "3": "0.5", "4": "1e-7", "5": "-0.0"}


@pytest.mark.parametrize(
    "text",
    [
        "0.1",
        "0.7",
        "0.70",
        "1.0",
        "1e0",
        "1E-7",
        "1e-7",
        "1e+2",
        "123.456e3",
        "1e22",
        "1e300",
        "5e-324",
        "-0.25",
        "1e-400",
    ],
)
@pytest.mark.parametrize("field", SAMPLING)
def test_another_number_keeps_its_value_in_a_form_that_every_parser_reads(field: str, text: str) -> None:
    out = number(field, text)
    assert JSON_NUMBER.fullmatch(out)
    assert float(out) == float(text)


@pytest.mark.parametrize("text", ["1e400", "-1e400", "NaN", "Infinity", "01", "+1", ".5", "1.", "0x1"])
def test_what_is_no_number_of_json_or_past_every_range_is_refused(text: str) -> None:
    for fields in (f'"temperature":{text}', f'"metadata":{{"a":{text}}}', f'"logit_bias":{{"1":{text}}}'):
        found = sent(fields)
        assert isinstance(found, Problem)
        assert found.kind.status == 400
        assert found.kind.type == ("request_invalid" if "e400" in text else "json_invalid")


@given(st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False))
def test_any_number_keeps_its_value_and_kind(value: float) -> None:
    text = json.dumps(value)
    for out in (number("temperature", text), number("top_k", text)):
        assert JSON_NUMBER.fullmatch(out)
        assert Decimal(out) == Decimal(text) if isinstance(value, int) else float(out) == value
        assert out.lstrip("-").isdigit() == isinstance(value, int)


@given(st.recursive(st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False), st.lists))
def test_numbers_of_an_agents_own_objects_stay_what_they_are(value: Any) -> None:
    body = CHAT.parse(json.dumps({"model": "m", "messages": [{"role": "user"}], "metadata": {"a": value}}).encode())
    assert not isinstance(body, Problem)
    assert repr(body.content.metadata["a"]) == repr(value)
