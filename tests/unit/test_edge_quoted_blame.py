"""What an agent has a provider quote in an error blames no credential, account or quota that serves others."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyforge.contracts.ids import CredentialId
from keyforge.edge.core.dialects.blame import Blame, blame_of
from keyforge.edge.core.dialects.provider_error import error_of
from tests.unit.edge_twins import Response
from tests.unit.test_edge_relay import Relayed

PHRASES = (
    "insufficient_quota", "insufficient_balance", "Insufficient Balance", "credit balance is too low", "billing_error",
    "used all available credits", "spend_limit_exceeded", "reached your API usage limits", "key limit exceeded",
    "invalid_api_key", "incorrect API key", "API key not valid", "authentication_error", "consumer_suspended",
    "organization has been disabled", "reported as leaked", "account_deactivated", "credit\n balance\tis too low",
    "INVALID_API_\u212aEY", "credit\u00a0balance\u2003is too low", "余额不足",
)  # fmt: skip
"""Words that rest a credential or an account where the provider says them; the last one is lower case as they are."""
QUOTES = (
    "Invalid schema for response_format '{}': schema must be a JSON Schema of 'type: \"object\"'",
    "Unknown name \"{}\" at 'tools[0].function_declarations[0].parameters': Cannot find field.",
    "[{{'type': 'extra_forbidden', 'loc': ('body', 'x'), 'msg': 'Extra inputs are not permitted', 'input': '{}'}}]",
    "tool choice {} is not in request.tools",
    "'{}' is not one of ['string', 'number'] - 'tools.0.type'",
    "body.messages.0.{}: Extra inputs are not permitted",
)
"""How providers quote what is wrong: OpenAI, Gemini, vLLM, Groq, jsonschema (Azure, DeepSeek), FastAPI."""


def body_with(text: str) -> bytes:
    return json.dumps({"messages": [{"content": "hi"}], "tools": [{"name": text}]}, ensure_ascii=False).encode()


def blame(status: int, body: Any, sent: bytes, kind: str = "openai") -> Blame:
    error = error_of(json.dumps(body).encode(), status)
    assert error is not None
    return blame_of(error, kind, sent)


@pytest.mark.parametrize("quote", QUOTES)
@pytest.mark.parametrize("phrase", PHRASES)
@pytest.mark.parametrize("status", [400, 404, 422])
def test_words_of_the_agents_are_not_the_providers(status: int, phrase: str, quote: str) -> None:
    told = {"error": {"message": quote.format(phrase), "type": "invalid_request_error", "param": None, "code": None}}
    assert blame(status, told, body_with(phrase)) == "request"
    if status == 400:
        assert blame(status, told, body_with("x")) in ("account", "credential"), "nobody else can have said it"


@given(st.text(max_size=30), st.sampled_from(QUOTES), st.sampled_from(PHRASES), st.text(max_size=30))
def test_whatever_stands_around_them(before: str, quote: str, phrase: str, after: str) -> None:
    text = before + " " + phrase + " " + after
    told = {"error": {"message": quote.replace("{}", text), "type": "invalid_request_error"}}
    assert blame(400, told, body_with(text)) == "request"


@pytest.mark.parametrize(
    ("status", "told", "expected"),
    [
        (400, {"error": {"message": "no", "code": "insufficient_quota"}}, "account"),
        (429, {"error": {"message": "You exceeded your current quota", "type": "insufficient_quota"}}, "account"),
        (400, {"error": "Incorrect API key provided: xai-1. You can obtain one at x"}, "credential"),
        (400, {"error": {"message": "API key not valid. Please pass a valid API key."}}, "credential"),
        (401, {"error": {"message": "no invalid_api_key"}}, "credential"),
        (402, {"error": {"message": "no insufficient_quota"}}, "account"),
        (403, {"error": {"message": "it is: spend_limit_exceeded"}}, "permission"),
        (429, {"error": {"message": "it is: insufficient_quota"}}, "quota"),
        (403, {"error": {"message": "Your input was flagged: insufficient_quota"}}, "request"),
    ],
)
def test_codes_and_first_words_are_the_providers_own_whatever_was_sent(status: int, told: Any, expected: Blame) -> None:
    sent = body_with(" ".join(PHRASES) + " API key not valid. Incorrect API key")
    assert blame(status, told, sent) == expected


async def test_a_request_is_known_by_its_body() -> None:
    """Through the relay, so that the body that was sent is the one that is looked at."""
    schema = {"type": "json_schema", "json_schema": {"name": "insufficient_quota", "schema": {"type": "string"}}}
    told = {"error": {"message": QUOTES[0].format("insufficient_quota"), "type": "invalid_request_error"}}
    for fields, name in (({"response_format": schema}, "upstream_error"), ({}, "upstream_rate_limited")):
        relayed = Relayed(**fields)
        await relayed.whole(Response(400, json.dumps(told).encode()))
        assert (relayed.agent.status, relayed.outcome.name) == (400, name)
    assert CredentialId("c") == relayed.outcome.attempts[0].credential
