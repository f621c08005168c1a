"""Each wrong thing has its own clear error, loses nothing, and leaves nothing reserved."""

import json
import socket
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from keyforge.testkit.gateway import Gateway, Issued, error_of

MESSAGES = [{"role": "user", "content": "hello"}]
CHAT = {"model": "sim/sim-small", "messages": MESSAGES}


@pytest.fixture
def key(gateway: Gateway, new_tenant: Callable[[Gateway], str]) -> Issued:
    return gateway.key(new_tenant(gateway), [{"unit": "usd", "window": "day", "cap": "5"}])


def post(
    gateway: Gateway, content: bytes, headers: dict[str, str], path: str = "/v1/chat/completions"
) -> httpx.Response:
    return httpx.post(gateway.stack.url("edge") + path, content=content, headers=headers, timeout=30)


def same_shape(answer: httpx.Response, status: int, type_: str) -> None:
    error = error_of(answer)
    assert (answer.status_code, error["type"], error["code"]) == (status, type_, status)
    assert set(error) == {"code", "type", "message", "param", "metadata"}
    assert answer.headers["x-request-id"] == answer.headers["request-id"]


@pytest.mark.parametrize(
    ("content", "status", "type_"),
    [
        pytest.param(b"{", 400, "json_invalid", id="not JSON"),
        pytest.param(b"", 400, "json_invalid", id="nothing"),
        pytest.param(b"\xff\xfe", 400, "json_invalid", id="not UTF-8"),
        pytest.param(b'{"model":"a","model":"b","messages":[]}', 400, "json_duplicate_key", id="duplicate keys"),
        pytest.param(b'{"model":"sim-small","messages":"hello"}', 400, "request_invalid", id="wrong type"),
        pytest.param(b"[]", 400, "request_invalid", id="not an object"),
        pytest.param(json.dumps({**CHAT, "max_tokens": -1}).encode(), 400, "request_invalid", id="negative maximum"),
        pytest.param(json.dumps({**CHAT, "model": "nobody-has-it"}).encode(), 404, "model_unknown", id="unknown model"),
        pytest.param(json.dumps({**CHAT, "surprise": 1}).encode(), 400, "field_unsupported", id="unknown field"),
        pytest.param(b'{"model":"sim-small","messages":' + b"[" * 5000 + b"]" * 5000 + b"}", 400, "", id="too deep"),
    ],
)
def test_bodies(gateway: Gateway, key: Issued, content: bytes, status: int, type_: str) -> None:
    answer = post(gateway, content, key.headers)
    if type_:
        same_shape(answer, status, type_)
    else:
        assert (answer.status_code, error_of(answer)["type"]) in {(400, "json_too_deep"), (400, "request_invalid")}
    assert {float(limit["reserved"]) for limit in gateway.limits(key)} == {0.0}


def test_a_body_that_is_too_large(gateway: Gateway, key: Issued) -> None:
    large = json.dumps({**CHAT, "messages": [{"role": "user", "content": "x" * (9 << 20)}]}).encode()
    same_shape(post(gateway, large, key.headers), 413, "body_too_large")


def test_keys_that_open_nothing(gateway: Gateway, key: Issued) -> None:
    body = json.dumps(CHAT).encode()
    same_shape(post(gateway, body, {}), 401, "key_missing")
    same_shape(post(gateway, body, {"authorization": "Bearer vk_nonsense"}), 401, "key_invalid")
    mistyped = key.text[:-1] + ("1" if key.text.endswith("0") else "0")
    same_shape(post(gateway, body, {"authorization": f"Bearer {mistyped}"}), 401, "key_invalid")
    same_shape(post(gateway, body, {"x-api-key": "sk-fixture-not-ours"}), 401, "key_invalid")
    assert post(gateway, body, {"x-api-key": key.text}).status_code == 200
    gateway.revoke(key)
    same_shape(post(gateway, body, key.headers), 401, "key_revoked")


def test_models(gateway: Gateway, new_tenant: Callable[[Gateway], str]) -> None:
    tenant = new_tenant(gateway)
    narrow = gateway.key(tenant, models=["sim/sim-large"])
    same_shape(gateway.chat(narrow), 403, "model_forbidden")
    assert gateway.chat(narrow, model="sim/sim-large").status_code == 200
    none = gateway.key(tenant, models=[])
    same_shape(gateway.chat(none), 403, "model_forbidden")
    other = {"id": "twin", "kind": "openai", "base_url": gateway.stack.url("simulator") + "/v1", "allow_insecure": True}
    gateway.operator("keys", "POST", "/v1/providers", other)
    price = {"input_per_mtok": "1", "output_per_mtok": "1"}
    gateway.operator("keys", "PUT", "/v1/prices/twin/both-have-it", price)
    gateway.operator("keys", "PUT", "/v1/prices/sim/both-have-it", price)
    free = gateway.key(tenant)
    same_shape(gateway.chat(free, model="both-have-it"), 400, "model_ambiguous")
    assert gateway.chat(free, model="sim/both-have-it").status_code == 200
    answer = gateway.chat(free, model="sim/never-priced")
    assert (answer.status_code, error_of(answer)["type"]) in {(400, "price_unknown"), (404, "model_unknown")}


@pytest.mark.parametrize(
    ("method", "path", "status", "type_"),
    [
        ("GET", "/v1/nowhere", 404, "route_unknown"),
        ("POST", "/v1/files", 404, "route_unknown"),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
    ],
)
def test_routes(gateway: Gateway, key: Issued, method: str, path: str, status: int, type_: str) -> None:
    answer = httpx.request(method, gateway.stack.url("edge") + path, headers=key.headers)
    same_shape(answer, status, type_)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "file", "file": {"file_id": "f"}},
        {"type": "input_audio", "input_audio": {"data": "!!", "format": "tape"}},
        {"type": "video_url", "video_url": {"url": "https://example.org/v"}},
    ],
)
def test_content_without_a_bound(gateway: Gateway, key: Issued, part: dict[str, Any]) -> None:
    answer = gateway.chat(key, messages=[{"role": "user", "content": [part]}])
    assert answer.status_code == 400
    assert error_of(answer)["type"] in {"unbounded_content", "request_invalid", "field_unsupported"}


@pytest.mark.parametrize(
    ("behaviour", "status", "type_"),
    [
        pytest.param({"cut_before_head": True}, 502, "upstream_cut", id="cut before the head"),
        pytest.param({"cut_body_at": 40}, 502, "upstream_cut", id="cut mid-body"),
        pytest.param({"body": "<html>"}, 502, "upstream_malformed", id="not JSON"),
        pytest.param({"status": 307, "location": "http://127.0.0.1:1/"}, 502, "upstream_redirect", id="redirect"),
        pytest.param({"huge_header_bytes": 1 << 18}, 502, "upstream_header_too_large", id="huge header"),
        pytest.param({"status": 401}, 502, "upstream_auth", id="401"),
        pytest.param({"status": 429, "retry_after": "7"}, 429, "upstream_rate_limited", id="429"),
    ],
)
def test_upstreams(
    gateway: Gateway, new_tenant: Callable[[Gateway], str], behaviour: Any, status: int, type_: str
) -> None:
    provider = own_provider(gateway, behaviour)
    key = gateway.key(new_tenant(gateway), [{"unit": "usd", "window": "day", "cap": "5"}])
    answer = gateway.chat(key, model=f"{provider}/m")
    same_shape(answer, status, type_)
    gateway.wait_settled(key)


def test_an_upstreams_fault_is_told_in_its_words(gateway: Gateway, new_tenant: Callable[[Gateway], str]) -> None:
    provider = own_provider(gateway, {"status": 500})
    key = gateway.key(new_tenant(gateway), [{"unit": "usd", "window": "day", "cap": "5"}])
    answer = gateway.chat(key, model=f"{provider}/m")
    assert (answer.status_code, answer.json()["error"]["type"]) == (500, "server_error")
    gateway.wait_settled(key)


def test_an_upstream_that_refuses_the_connection(gateway: Gateway, new_tenant: Callable[[Gateway], str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refused
        provider = own_provider(gateway, {}, f"http://127.0.0.1:{taken.getsockname()[1]}/v1")
        key = gateway.key(new_tenant(gateway), [{"unit": "usd", "window": "day", "cap": "5"}])
        same_shape(gateway.chat(key, model=f"{provider}/m"), 502, "upstream_refused")
    (limit,) = gateway.wait_settled(key)
    assert float(limit["settled"]) == 0.0  # no byte was sent, so it cost nothing


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param({"cut_after_chunks": 3}, id="cut mid-stream"),
        pytest.param({"malformed_after_chunks": 3}, id="malformed SSE"),
        pytest.param({"error_after_chunks": 3}, id="an error in the stream"),
    ],
)
def test_streams_that_break(gateway: Gateway, new_tenant: Callable[[Gateway], str], behaviour: Any) -> None:
    provider = own_provider(gateway, behaviour)
    key = gateway.key(new_tenant(gateway), [{"unit": "usd", "window": "day", "cap": "5"}])
    answer = gateway.chat(key, model=f"{provider}/m", stream=True)
    assert answer.status_code == 200
    events = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
    assert "error" in json.loads(events[-1])  # in the protocol, and no [DONE] behind it
    (limit,) = gateway.wait_settled(key)
    assert float(limit["settled"]) > 0.0


def test_no_usage_counts_as_the_worst_case(gateway: Gateway, new_tenant: Callable[[Gateway], str]) -> None:
    provider = own_provider(gateway, {"usage": False})
    key = gateway.key(new_tenant(gateway), [{"unit": "tokens", "window": "day", "cap": 100_000}])
    assert gateway.chat(key, model=f"{provider}/m", max_tokens=1000).status_code == 200
    (limit,) = gateway.wait_settled(key)
    assert int(limit["settled"]) >= 1000


def own_provider(gateway: Gateway, behaviour: dict[str, Any], base_url: str = "") -> str:
    """Register a provider of this test's own: its faults cool down nobody else's credential."""
    own_provider.count += 1  # type: ignore[attr-defined]
    provider = f"own-{own_provider.count}"  # type: ignore[attr-defined]
    secret = f"fixture-credential-{provider}"
    url = base_url or gateway.stack.url("simulator") + "/v1"
    gateway.operator(
        "keys", "POST", "/v1/providers", {"id": provider, "kind": "openai", "base_url": url, "allow_insecure": True}
    )
    gateway.operator("keys", "POST", f"/v1/providers/{provider}/credentials", {"secret": secret})
    gateway.operator("keys", "PUT", f"/v1/prices/{provider}/m", {"input_per_mtok": "1", "output_per_mtok": "2"})
    gateway.script(behaviour, credential=secret)
    return provider


own_provider.count = 0  # type: ignore[attr-defined]
