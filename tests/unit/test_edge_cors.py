"""Which pages may call the agents' API: what the setting may be, and what browsers are answered."""

import re
from pathlib import Path

import pytest

from keyforge.edge.core import cors
from keyforge.edge.core.cors import EXPOSED, Cors

EDGE = Path(cors.__file__).parents[1]
PAGE = b"https://app.example.com"
ALLOW_ORIGIN = b"access-control-allow-origin"


@pytest.mark.parametrize(
    "origins",
    [
        ["https://app.example.com"],
        ["http://localhost:3000", "https://app.example.com"],
        ["http://127.0.0.1:5173"],
        ["http://[::1]:8080"],
        ["https://example.com:8443"],
        ["http://example.com:443"],
        ["chrome-extension://cfhdojbkjhnklbpkdaibdccddilifddb"],
        ["app://obsidian.md", "capacitor://localhost", "tauri://localhost"],
        ["https://xn--bcher-kva.example"],
    ],
)
def test_origins_that_may_be_set(origins: list[str]) -> None:
    for text in (",".join(origins), " , ".join(origins)):
        assert cors.parse(text) == Cors(frozenset(origin.encode() for origin in origins))


def test_all_origins_and_none() -> None:
    assert (cors.parse(""), cors.parse("*")) == (None, Cors(None))


@pytest.mark.parametrize(
    "text",
    [
        "app.example.com",
        "https://app.example.com/",
        "https://app.example.com/v1",
        "https://App.example.com",
        "HTTPS://app.example.com",
        "https://app.example.com:443",
        "http://localhost:80",
        "http://localhost:0",
        "http://localhost:65536",
        "http://localhost:",
        "https://*.example.com",
        "https://user@example.com",
        "https://app.example.com?x",
        "https://bücher.example",
        "https://",
        "https://a..b",
        "null",
        "*,https://app.example.com",
        "https://app.example.com,",
        ",",
        " ",
        "https://a.example https://b.example",
        "https://a.example\r\nx: y",
    ],
)
def test_what_no_browser_sends_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be `\\*`, or origins as browsers send them"):
        cors.parse(text)


@pytest.mark.parametrize(
    ("setting", "origin", "named"),
    [
        ("*", PAGE, b"*"),
        ("*", b"null", b"*"),
        ("*", b"", b"*"),
        ("https://app.example.com,http://localhost:3000", PAGE, PAGE),
        ("https://app.example.com", b"https://app.example.com.evil.example", None),
        ("https://app.example.com", b"https://APP.example.com", None),
        ("https://app.example.com", b"http://app.example.com", None),
        ("https://app.example.com", b"https://app.example.com:444", None),
        ("https://app.example.com", b"null", None),
        ("https://app.example.com", b"", None),
    ],
)
def test_an_answer_names_an_origin_that_is_allowed_and_says_that_it_differs(
    setting: str, origin: bytes, named: bytes | None
) -> None:
    allowed = cors.parse(setting)
    assert allowed is not None
    headers = dict(allowed.of_answer(origin))
    assert headers.get(ALLOW_ORIGIN) == named
    assert (b"access-control-expose-headers" in headers) == (named is not None)
    assert headers[b"vary"] == b"origin"
    assert b"access-control-allow-credentials" not in headers
    assert allowed.allows(origin) == (named is not None and origin != b"")


CLIENTS = [
    pytest.param(b"authorization,content-type", id="fetch"),
    pytest.param(
        b"authorization,content-type,user-agent,x-stainless-arch,x-stainless-helper-method,x-stainless-lang,x-stainless-os,"
        b"x-stainless-package-version,x-stainless-retry-count,x-stainless-runtime,x-stainless-runtime-version,"
        b"x-stainless-timeout,openai-organization,openai-project",
        id="openai-node",
    ),
    pytest.param(b"api-key,content-type", id="Azure"),
    pytest.param(
        b"anthropic-dangerous-direct-browser-access,anthropic-version,content-type,x-api-key,x-stainless-lang",
        id="anthropic",
    ),
    pytest.param(b"authorization,http-referer,x-title,x-openrouter-title", id="openrouter"),
    pytest.param(b"authorization,baggage,idempotency-key,traceparent", id="traced"),
]


@pytest.mark.parametrize("asked", CLIENTS)
def test_what_the_official_clients_send_is_allowed_by_name(asked: bytes) -> None:
    headers = dict(cors.of_preflight(("GET", "POST"), asked))
    assert headers[b"access-control-allow-headers"].replace(b" ", b"") == asked
    assert headers[b"access-control-allow-methods"] == b"GET, POST"
    assert headers[b"access-control-max-age"] == b"7200"


@pytest.mark.parametrize("asked", [b"cookie", b"x-forwarded-for", b"*", b"", b",", b"x-stainless-", b"api-key: x"])
def test_no_other_header_is_allowed(asked: bytes) -> None:
    headers = dict(cors.of_preflight(("POST",), b"Authorization, " + asked))
    assert headers[b"access-control-allow-headers"] == b"authorization"


def test_a_page_may_read_every_header_of_ours() -> None:
    named = {
        name for path in EDGE.rglob("*.py") for name in re.findall(r"x-keyforge-[a-z-]+", path.read_text().lower())
    }
    assert named - set(EXPOSED) == set()
    assert {"x-request-id", "request-id", "retry-after", "x-should-retry"} < set(EXPOSED)
