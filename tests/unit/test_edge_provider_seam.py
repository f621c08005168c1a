"""What can be sent to a provider: origins, targets and header lines that cannot break the framing."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyforge.contracts.errors import CATALOGUE
from keyforge.edge.application import provider_errors as errors
from keyforge.edge.application.provider_call import HeaderBlock, UpstreamRequest
from keyforge.edge.core.routing.origin import Origin, parse_base_url


@pytest.mark.parametrize(
    ("url", "authority", "prefix"),
    [
        ("https://api.openai.com/v1", "api.openai.com", "/v1"),
        ("https://api.groq.com/openai/v1/", "api.groq.com", "/openai/v1"),
        ("https://example.com", "example.com", ""),
        ("https://example.com:8443/v1", "example.com:8443", "/v1"),
        ("https://[2606:4700::1111]:8443/v1", "[2606:4700::1111]:8443", "/v1"),
    ],
)
def test_base_urls(url: str, authority: str, prefix: str) -> None:
    address = parse_base_url(url)
    assert (address.origin.authority, address.prefix) == (authority, prefix)
    assert not address.origin.allow_insecure


@pytest.mark.parametrize(
    "url",
    [
        "http://api.openai.com/v1", "ftp://example.com", "https://", "https://user:word@example.com", "https://@example.com",
        "https://example.com/?q", "https://example.com/#f", "https://exa mple.com", "https://example.com/a b",
        "https://example.com:0/", "https://example.com:99999/", "https://ex\u00e4mple.com", "https://-example.com", "x",
        "https://example.com\r\nhost: other/",
    ],
)  # fmt: skip
def test_what_is_no_base_url(url: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        parse_base_url(url)


def test_plain_http_needs_the_operators_word() -> None:
    assert parse_base_url("http://127.0.0.1:11434/v1", allow_insecure=True).origin.allow_insecure
    with pytest.raises(ValueError, match="allow_insecure"):
        Origin("http", "127.0.0.1", 80)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"host", b"other"), (b"Content-Length", b"1"), (b"transfer-encoding", b"chunked"), (b"Connection", b"close"),
        (b"accept-encoding", b"gzip"), (b"expect", b"100-continue"), (b"x\r\ny", b"1"), (b"x y", b"1"), (b"", b"1"),
        (b"x", b"1\r\ny: 2"), (b"x", b"1\ny: 2"), (b"x", b"\x00"), (b"x:", b"1"), (b"x", b"a" * 9000), (b"x", b"1\r"),
        (b"x", b"1\n"), (b"x\n", b"1"),
    ],
)  # fmt: skip
def test_header_lines_that_may_not_be_sent(name: bytes, value: bytes) -> None:
    with pytest.raises(ValueError, match="may not be sent"):
        HeaderBlock.of([(name, value)])


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_a_header_block_is_one_line_per_pair(name: bytes, value: bytes) -> None:
    try:
        block = HeaderBlock.of([(b"x-first", b"1"), (name, value)])
    except ValueError:
        return
    assert block.raw.count(b"\r\n") == block.raw.count(b"\n") == block.raw.count(b"\r") == 2
    assert block.raw.split(b"\r\n")[1].split(b": ", 1) == [name, value]


def test_secrets_are_not_shown() -> None:
    block = HeaderBlock.of([(b"authorization", b"Bearer fixture-secret")])
    request = UpstreamRequest(Origin("https", "example.com", 443), "/", block, b"fixture-prompt", time.monotonic())
    assert "fixture" not in repr(block) + str(block) + repr(request) + str(request)


def test_every_failure_has_a_type_of_the_catalogue() -> None:
    kinds = errors.UpstreamError.__subclasses__()
    assert len(kinds) == 10
    for kind in kinds:
        assert kind.type in CATALOGUE
        assert f"{kind.__name__} " in (errors.__doc__ or "")
        assert kind.type in (errors.__doc__ or "")
