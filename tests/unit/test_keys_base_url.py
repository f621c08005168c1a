"""What a provider's base URL may be: a table of what was tried on others."""

import pytest

from keyforge.contracts.errors import Problem
from keyforge.keys.core.base_url import URL_CHARS_MAX, base_url


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("https://api.openai.com/v1", "https://api.openai.com/v1"),
        ("https://api.openai.com/v1/", "https://api.openai.com/v1"),
        ("HTTPS://API.OpenAI.com", "https://api.openai.com"),
        ("https://api.openai.com.", "https://api.openai.com"),
        ("https://example.com:8443/a/b.c_d~e-f", "https://example.com:8443/a/b.c_d~e-f"),
        ("https://8.8.8.8", "https://8.8.8.8"),
        ("https://[2606:4700:4700::1111]:443/v1", "https://[2606:4700:4700::1111]:443/v1"),
        ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
    ],
)
def test_kept(text: str, kept: str) -> None:
    assert base_url(text, allow_insecure=False) == kept


@pytest.mark.parametrize(
    "text",
    [
        "http://api.openai.com",
        "http://localhost:8100",
        "https://localhost",
        "https://simulator",
        "https://db.internal",
        "https://printer.local",
        "https://127.0.0.1",
        "https://10.0.0.1",
        "https://172.16.0.1",
        "https://192.168.1.1",
        "https://100.64.0.1",
        "https://[::1]",
        "https://[fd00::1]",
        "https://[::ffff:10.0.0.1]",
        "https://[64:ff9b::a00:1]",
        "https://[2002:a00:1::]",
        "https://[2001:0:4136:e378:8000:63bf:f5ff:fffe]",
    ],
)
def test_only_with_allow_insecure(text: str) -> None:
    assert isinstance(base_url(text, allow_insecure=False), Problem)
    assert base_url(text, allow_insecure=True) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "https://",
        "https:///v1",
        "//example.com",
        "example.com",
        "ftp://example.com",
        "javascript://example.com",
        "https://user@example.com",
        "https://user:password@example.com",
        "https://example.com@evil.example",
        "https://example.com?key=x",
        "https://example.com#x",
        "https://example.com/a?b",
        "https://example.com\\@evil.example",
        "https://example.com/%2e%2e/",
        "https://example.com/../admin",
        "https://example.com//v1",
        "https://exa mple.com",
        "https://example.com/\n",
        "https://example.com\r\nhost: evil",
        "https://exämple.com",
        "https://-example.com",
        "https://example..com",
        "https://example.com:0",
        "https://example.com:65536",
        "https://example.com:",
        "https://example.com:8o",
        "https://2130706433",
        "https://0x7f.0.0.1",
        "https://0177.0.0.1",
        "https://127.1",
        "https://1.2.3.4.5",
        "https://169.254.169.254",
        "https://[fe80::1]",
        "https://[::ffff:169.254.169.254]",
        "https://[64:ff9b::a9fe:a9fe]",
        "https://168.63.129.16",
        "https://[fd00:ec2::254]",
        "https://255.255.255.255",
        "https://[fe80::1%25eth0]",
        "https://0.0.0.0",
        "https://[::]",
        "https://224.0.0.1",
        "https://[1::2::3]",
        "https://" + "a" * 64 + ".com",
        "https://example.com/" + "a" * URL_CHARS_MAX,
    ],
)
def test_never(text: str) -> None:
    for allow_insecure in (False, True):
        found = base_url(text, allow_insecure=allow_insecure)
        assert isinstance(found, Problem)
        assert found.param == "base_url"
        assert "`base_url`" in found.message
        assert "user:password" not in found.message


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("https://user:password@example.com", "user name or password"),
        ("https://user@example.com/v1", "user name or password"),
        ("https://example.com/v1?key=1", "query or a fragment"),
        ("https://example.com/v1#a", "query or a fragment"),
        ("https://example.com/../v1", "segments"),
    ],
)
def test_the_message_names_what_must_go(text: str, part: str) -> None:
    found = base_url(text, allow_insecure=True)
    assert isinstance(found, Problem)
    assert part in found.message


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("https://api.openai.com/v1/chat/completions", "https://api.openai.com/v1"),
        ("https://api.openai.com/v1/responses/", "https://api.openai.com/v1"),
        ("https://api.anthropic.com/v1/messages", "https://api.anthropic.com/v1"),
        ("https://api.anthropic.com/v1/messages/count_tokens", "https://api.anthropic.com/v1"),
        ("https://openrouter.ai/api/v1/models", "https://openrouter.ai/api/v1"),
        ("https://api.groq.com/openai/v1/Chat/Completions", "https://api.groq.com/openai/v1"),
        (
            "https://generativelanguage.googleapis.com/v1beta/openai/embeddings",
            "https://generativelanguage.googleapis.com/v1beta/openai",
        ),
        ("https://api.deepseek.com/chat/completions", "https://api.deepseek.com"),
        ("https://api.fireworks.ai/inference/v1/completions", "https://api.fireworks.ai/inference/v1"),
        ("https://api.cohere.com/v2/rerank", "https://api.cohere.com/v2"),
        ("https://api.openai.com/v1/audio/transcriptions", "https://api.openai.com/v1"),
        ("http://127.0.0.1:11434/v1/chat/completions/chat/completions", "http://127.0.0.1:11434/v1"),
        ("http://[::1]:8000/models", "http://[::1]:8000"),
    ],
)
def test_an_endpoint_is_refused_with_the_base_url_that_is_meant(text: str, right: str) -> None:
    found = base_url(text, allow_insecure=True)
    assert isinstance(found, Problem)
    assert (found.kind.type, found.param) == ("request_invalid", "base_url")
    assert found.message.endswith(f"use `{right}`.")
    assert base_url(right, allow_insecure=True) == right


@pytest.mark.parametrize(
    "text",
    [
        "https://api-inference.huggingface.co/models/meta-llama/Llama-3/v1",
        "https://gateway.example/chat",
        "https://gateway.example/mymodels",
        "https://models.github.ai/inference",
        "https://messages",
        "https://example.com/embeddings/v1",
    ],
)
def test_what_only_looks_like_an_endpoint_is_kept(text: str) -> None:
    assert base_url(text, allow_insecure=True) == text
