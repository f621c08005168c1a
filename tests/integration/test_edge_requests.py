"""The edge with real neighbours: requests that are answered or refused, and what the log holds of them."""

import asyncio
import zlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from keyforge.contracts.events import RequestAdmitted, RequestCompleted, RequestRefused
from keyforge.contracts.ids import CredentialId, ProviderId
from keyforge.contracts.keyformat import ALPHABET, mint
from keyforge.contracts.limits import Limit
from tests.integration.edge_facts import MODEL, SECRETS, USD
from tests.integration.edge_stack import EdgeStack

pytestmark = pytest.mark.asyncio(loop_scope="module")

SPECIAL = (
    "sim-500", "sim-slow", "sim-cut", "sim-cut-body", "sim-not-json", "sim-no-usage", "sim-redirect", "sim-huge-header",
    "sim-wrong-type", "sim-overrun",
)  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EdgeStack]:
    settings = {"KEYFORGE_BODY_BYTES_MAX": "65536", "KEYFORGE_BODY_TIME_LIMIT_S": "0.5"}
    async with EdgeStack(tmp_path_factory.mktemp("edge"), **settings) as running:
        await running.provider(ProviderId("sim"), [MODEL, "text-embed", "twice", *SPECIAL])
        await running.provider(ProviderId("other"), ["twice", "only-other"])
        await running.credential(ProviderId("other"), CredentialId("other-one"), "fixture-credential-other")
        await running.knows("only-other")
        yield running


async def test_a_chat_is_admitted_answered_and_settled(stack: EdgeStack) -> None:
    key = await stack.key()
    answer = await stack.chat(key, max_tokens=50)
    assert answer.status_code == 200, answer.text
    request_id = answer.headers["x-request-id"]
    assert answer.headers["request-id"] == request_id
    usage = answer.json()["usage"]
    completed = await stack.ending(request_id)
    assert isinstance(completed, RequestCompleted)
    assert completed.outcome == "ok"
    assert completed.usage is not None
    assert completed.usage.tokens == usage["total_tokens"]
    admitted = next(event for event in await stack.events(request_id) if isinstance(event, RequestAdmitted))
    assert admitted.reserved.tokens >= usage["total_tokens"]
    assert admitted.debits == ()


async def test_embeddings_and_the_other_prefix(stack: EdgeStack) -> None:
    key = await stack.key()
    body = {"model": "sim/text-embed", "input": ["one", "two"]}
    answer = await stack.edge.post("/api/v1/embeddings", json=body, headers={"x-api-key": key.text})
    assert answer.status_code == 200, answer.text
    completed = await stack.ending(answer.headers["x-request-id"])
    assert completed.usage.input_tokens == answer.json()["usage"]["prompt_tokens"]


async def test_models_lists_what_the_key_may_use(stack: EdgeStack) -> None:
    key = await stack.key(models=("only-other", f"sim/{MODEL}"))
    answer = await stack.edge.get("/v1/models", headers=stack.auth(key))
    assert [model["id"] for model in answer.json()["data"]] == ["other/only-other", f"sim/{MODEL}"]
    assert answer.json()["object"] == "list"


def asked(model: str = MODEL, content: Any = "x", **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": content}], **fields}


REFUSED: list[Any] = [
    pytest.param({"headers": {}}, 401, "key_missing", id="no key"),
    pytest.param({"headers": {"authorization": "Bearer vk_nonsense"}}, 401, "key_invalid", id="no key of ours"),
    pytest.param({"headers": {"authorization": "Bearer é".encode()}}, 401, "key_invalid", id="not ASCII"),
    pytest.param({"json": asked("nope")}, 404, "model_unknown", id="unknown model"),
    pytest.param({"json": asked("twice")}, 400, "model_ambiguous", id="ambiguous model"),
    pytest.param({"json": asked("sim/unpriced")}, 400, "price_unknown", id="no price"),
    pytest.param({"content": b"x" * 70_000}, 413, "body_too_large", id="body too large"),
    pytest.param({"content": b"not json"}, 400, "json_invalid", id="not JSON"),
    pytest.param({"content": b'{"model":"a","model":"b","messages":[]}'}, 400, "json_duplicate_key", id="key twice"),
    pytest.param({"content": b'{"a":' + b"[" * 5000}, 400, "json_too_deep", id="too deep"),
    pytest.param({"json": asked(messages="hello")}, 400, "request_invalid", id="wrong type"),
    pytest.param({"json": asked(plugins=[])}, 400, "field_unsupported", id="field"),
    pytest.param({"json": asked(content=[{"type": "file"}])}, 400, "unbounded_content", id="file"),
]  # fmt: skip


@pytest.mark.parametrize(("request_", "status", "type_"), REFUSED)
async def test_bad_requests_have_their_own_error(
    stack: EdgeStack, request_: dict[str, Any], status: int, type_: str
) -> None:
    before = (await stack.books())["requests"]
    request = dict(request_)
    if "headers" not in request:
        request["headers"] = stack.auth(await stack.key())
    answer = await stack.edge.post("/v1/chat/completions", **request)
    _is_problem(answer, status, type_)
    assert answer.headers["x-should-retry"] == "false"
    assert (await stack.books())["requests"] == before


async def test_wrong_and_revoked_keys(stack: EdgeStack) -> None:
    stranger = mint("vk", SECRETS, b"\1" * 9, b"\2" * 32)
    _is_problem(await stack.chat(stranger), 401, "key_invalid")
    key = await stack.key()
    forged = mint("vk", SECRETS, b"\1" * 9, b"\3" * 32)._replace(text=key.text[:-7] + forged_end(key.text))
    _is_problem(await stack.chat(forged), 401, "key_invalid")
    assert (await stack.chat(key)).status_code == 200
    await stack.revoke(key)
    answer = await stack.until(lambda: stack.chat(key), lambda answer: answer.status_code != 200)
    _is_problem(answer, 401, "key_revoked")


def forged_end(text: str) -> str:
    """Return an end for `text` with another secret and a right checksum."""
    changed = text[-7]
    other = "a" if changed != "a" else "b"
    number, digits = zlib.crc32((text[:-7] + other).encode()), ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        digits = ALPHABET[digit] + digits
    return other + digits


async def test_routes_and_methods(stack: EdgeStack) -> None:
    _is_problem(await stack.edge.post("/v1/nothing"), 404, "route_unknown")
    for refused, allowed in (
        (await stack.edge.get("/v1/chat/completions"), "POST, OPTIONS"),
        (await stack.edge.delete("/api/v1/embeddings"), "POST, OPTIONS"),
        (await stack.edge.post("/v1/models"), "GET, HEAD, OPTIONS"),
        (await stack.edge.post("/healthz"), "GET, HEAD"),
    ):
        _is_problem(refused, 405, "method_not_allowed")
        assert refused.headers["allow"] == allowed
    for path in ("/healthz", "/readyz", "/metrics"):
        answer = await stack.edge.get(path)
        assert answer.status_code == 200
        assert answer.headers["x-request-id"] == answer.headers["request-id"]


async def test_head_is_answered_as_get_without_a_body(stack: EdgeStack) -> None:
    key = await stack.key()
    for path in ("/healthz", "/readyz", "/metrics", "/v1/models"):
        head, get = [await getattr(stack.edge, method)(path, headers=stack.auth(key)) for method in ("head", "get")]
        assert (head.status_code, get.status_code, head.content) == (200, 200, b"")
        assert head.headers["content-type"] == get.headers["content-type"]
        assert "content-length" in head.headers
    without_a_key = await stack.edge.head("/v1/models")
    assert (without_a_key.status_code, without_a_key.content) == (401, b"")


async def test_a_slow_body_is_not_waited_for(stack: EdgeStack) -> None:
    key = await stack.key()

    async def slow() -> AsyncIterator[bytes]:
        yield b'{"model":'
        await asyncio.sleep(1.0)  # longer than the edge waits for a body
        yield b'"x"}'

    answer = await stack.edge.post("/v1/chat/completions", content=slow(), headers=stack.auth(key))
    _is_problem(answer, 400, "body_incomplete")


async def test_refusals_are_told_once_a_second_with_a_count(stack: EdgeStack) -> None:
    key = await stack.key(models=())
    answers = [await stack.chat(key) for _ in range(20)]
    for answer in answers:
        _is_problem(answer, 403, "model_forbidden")
    refused: list[RequestRefused] = []
    async with asyncio.timeout(60):
        while sum(event.count for event in refused) < 20:
            await asyncio.sleep(0.1)  # polls the log: refusals are recorded once a second
            refused = [
                event
                for answer in answers
                for event in await stack.events(answer.headers["x-request-id"])
                if isinstance(event, RequestRefused)
            ]
    assert sum(event.count for event in refused) == 20
    assert len(refused) <= 3
    assert {event.reason for event in refused} == {"model_forbidden"}


async def test_money_that_does_not_suffice(stack: EdgeStack) -> None:
    key = await stack.key(limits=(Limit(unit="usd", window="month", cap=USD // 1_000_000),))
    answer = await stack.chat(key)
    _is_problem(answer, 402, "budget_exceeded")
    assert answer.headers["x-should-retry"] == "false"
    assert answer.json()["error"]["metadata"] == {"scope": "key", "unit": "usd", "window": "month"}


async def test_the_cap_of_the_key_is_injected(stack: EdgeStack) -> None:
    key = await stack.key(max_output_tokens=7)
    answer = await stack.chat(key, max_tokens=1000)
    assert answer.headers["x-keyforge-max-output-tokens"] == "7"
    assert answer.json()["usage"]["completion_tokens"] <= 7
    assert (await stack.books())["entries"][-1]["max_tokens"] == 7


UPSTREAM: list[Any] = [
    pytest.param("sim-cut", 502, "upstream_cut", "bound", id="cut before the head"),
    pytest.param("sim-cut-body", 502, "upstream_cut", "bound", id="cut in the body"),
    pytest.param("sim-not-json", 502, "upstream_malformed", "bound", id="not JSON"),
    pytest.param("sim-redirect", 502, "upstream_redirect", "none", id="redirect"),
    pytest.param("sim-huge-header", 502, "upstream_header_too_large", "bound", id="huge header"),
]


@pytest.mark.parametrize(("model", "status", "type_", "source"), UPSTREAM)
async def test_a_provider_that_fails(stack: EdgeStack, model: str, status: int, type_: str, source: str) -> None:
    key = await stack.key()
    answer = await stack.chat(key, model=model)
    _is_problem(answer, status, type_)
    completed = await stack.ending(answer.headers["x-request-id"])
    assert completed.outcome == type_
    assert completed.usage_source == source
    assert (completed.usage is None) == (source == "bound")
    assert all(attempt.sent for attempt in completed.attempts)
    # A provider that closes a used connection at once looks as if it had read nothing, and is asked once more.
    assert len(completed.attempts) == 1 or (model, len(completed.attempts)) == ("sim-cut", 2)


async def test_a_providers_fault_is_told_in_its_words_and_may_be_tried_again(stack: EdgeStack) -> None:
    answer = await stack.chat(await stack.key(), model="sim-500")
    assert (answer.status_code, answer.json()["error"]) == (
        500,
        {"message": "Scripted error.", "type": "server_error", "param": None, "code": None},
    )
    assert answer.headers.get("x-should-retry") != "false"
    completed = await stack.ending(answer.headers["x-request-id"])
    assert (completed.outcome, completed.usage_source, completed.usage.tokens) == ("upstream_error", "none", 0)


async def test_no_usage_counts_as_the_reservation(stack: EdgeStack) -> None:
    answer = await stack.chat(await stack.key(), model="sim-no-usage")
    assert answer.status_code == 200
    completed = await stack.ending(answer.headers["x-request-id"])
    assert (completed.outcome, completed.usage, completed.usage_source) == ("ok", None, "bound")


async def test_a_providers_word_on_the_request_is_handed_on(stack: EdgeStack) -> None:
    error = '{"error": {"message": "too long", "code": "context_length_exceeded", "type": "invalid_request_error"}}'
    await stack.script(model=MODEL, times=1, behaviour={"status": 400, "body": error})
    answer = await stack.chat(await stack.key())
    assert (answer.status_code, answer.text) == (400, error)
    completed = await stack.ending(answer.headers["x-request-id"])
    assert completed.usage.tokens == 0
    assert completed.usage_source == "none"


async def test_an_idempotency_key_is_good_for_one_dispatch(stack: EdgeStack) -> None:
    key = await stack.key()
    before = (await stack.books())["requests"]
    body = {"model": MODEL, "messages": [{"role": "user", "content": "x"}]}
    headers = {**stack.auth(key), "idempotency-key": "order-7"}
    first = await stack.edge.post("/v1/chat/completions", json=body, headers=headers)
    second = await stack.edge.post("/v1/chat/completions", json=body, headers=headers)
    assert first.status_code == 200
    _is_problem(second, 409, "idempotency_conflict")
    assert second.json()["error"]["metadata"]["request_id"] == first.headers["x-request-id"]
    assert (await stack.books())["requests"] == before + 1


async def test_secrets_stay_inside(stack: EdgeStack) -> None:
    key = await stack.key()
    answer = await stack.chat(key, messages=[{"role": "user", "content": "canary-prompt-text"}])
    assert "fixture-credential" not in str(answer.headers)
    shown = stack.output("edge") + (await stack.edge.get("/metrics")).text
    for secret in (key.text, "fixture-credential-one", "canary-prompt-text"):
        assert secret not in shown


def _is_problem(answer: httpx.Response, status: int, type_: str) -> None:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert (error["code"], error["type"]) == (status, type_)
    assert set(error) == {"code", "type", "message", "param", "metadata"}
    assert answer.headers["x-request-id"]
    assert answer.headers["x-request-id"] == answer.headers["request-id"]


async def test_what_fifty_can_afford_two_hundred_do_not_get(stack: EdgeStack) -> None:
    """Each costs its worst case, since the provider does not say what it used."""
    text = {"model": "sim-no-usage", "max_tokens": 40}
    probe = await stack.chat(await stack.key(), **text)
    admitted = [
        event for event in await stack.events(probe.headers["x-request-id"]) if isinstance(event, RequestAdmitted)
    ]
    worst_nusd = admitted[0].reserved.nusd
    key = await stack.key(limits=(Limit(unit="usd", window="total", cap=50 * worst_nusd),))
    before = (await stack.books())["requests"]
    answers = await asyncio.gather(*[stack.chat(key, **text) for _ in range(200)])
    statuses = [answer.status_code for answer in answers]
    assert (statuses.count(200), statuses.count(402)) == (50, 150)
    assert (await stack.books())["requests"] == before + 50
