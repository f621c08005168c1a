"""What an edge makes of the platform's buckets: which credentials it uses, and what it keeps from agents."""

import pytest

from keyforge.contracts.directory import CredentialEntry, ProviderEntry, encode
from keyforge.contracts.events import Attempt, KeyStatus
from keyforge.contracts.ids import CredentialId, ProviderId
from keyforge.edge.outbound.feeds.provider_registry import RETIRED_MAX, BucketProviderRegistry
from keyforge.runtime.buckets import Entry

PROVIDER = ProviderId("p")
URL = "https://example.com/v1"


def opened(entry: CredentialEntry) -> str:
    """Open what is encrypted here: a secret by its name."""
    if not entry.encrypted:
        raise ValueError("nothing in it")
    return f"fixture-{entry.credential}"


def credential(name: str, *, status: KeyStatus = "active", url: str = URL) -> Entry:
    entry = CredentialEntry(
        credential=CredentialId(name),
        provider=PROVIDER,
        base_url=url,
        encrypted="opaque" if status == "active" else "",
        encrypted_to="k",
        weight=1,
        quota_group=name,
        version=1,
        status=status,
    )
    return Entry(f"p.{name}", encode(entry), 1)


def deleted(name: str) -> Entry:
    return Entry(f"p.{name}", None, 2)


@pytest.fixture
def providers() -> BucketProviderRegistry:
    made = BucketProviderRegistry(opened)
    entry = ProviderEntry(provider=PROVIDER, kind="openai", base_url=URL, allow_insecure=False, revision=1)
    made.apply_providers([Entry("p", encode(entry), 1)], loaded=True)
    made.apply_prices([], loaded=True)
    made.apply_credentials([credential("a"), credential("b")], loaded=True)
    return made


def used(providers: BucketProviderRegistry) -> set[str]:
    """Whose turn it is, often enough for every credential to have had one."""
    pool = providers.pool(PROVIDER)
    keys = (f"key-{number}" for number in range(64))
    return {picked for key in keys if (picked := pool.pick(0.0, affinity=key)) is not None}


@pytest.mark.parametrize(
    "gone",
    [
        pytest.param(credential("a", status="revoked"), id="revoked"),
        pytest.param(deleted("a"), id="deleted"),
        pytest.param(credential("a", url="https://elsewhere.example.com/v1"), id="encrypted for another address"),
    ],
)
def test_a_credential_that_went_is_used_no_more(providers: BucketProviderRegistry, gone: Entry) -> None:
    pool = providers.pool(PROVIDER)
    assert used(providers) == {"a", "b"}
    providers.apply_credentials([gone], loaded=True)
    assert used(providers) == {"b"}
    assert providers.headers(CredentialId("a")) is None
    assert providers.pool(PROVIDER) is pool, "who holds the pool of a running request sees it, too"


def test_without_a_credential_there_is_none_to_wait_for(providers: BucketProviderRegistry) -> None:
    providers.apply_credentials([credential("a", status="revoked"), credential("b", status="revoked")], loaded=True)
    assert providers.pool(PROVIDER).ready(0.0) is False
    assert providers.pool(PROVIDER).ready_in_s(0.0) is None


def test_what_a_provider_says_of_a_credential_that_went_meanwhile_is_kept_from_the_agent(
    providers: BucketProviderRegistry,
) -> None:
    tried = [Attempt(credential=CredentialId("a"), status=401, sent=True, duration_ms=1)]
    text = b"no such key: fixture-a"
    assert b"fixture" not in providers.redact(tried, text)
    providers.apply_credentials([credential("a", status="revoked")], loaded=True)
    assert b"fixture" not in providers.redact(tried, text)
    for number in range(RETIRED_MAX):
        providers.apply_credentials([credential(f"n{number}")], loaded=True)
        providers.apply_credentials([deleted(f"n{number}")], loaded=True)
    assert providers.redact(tried, text) == text, "the oldest is forgotten, so memory is bounded"


@pytest.mark.parametrize(
    ("auth", "line"),
    [
        ("bearer", (b"authorization", b"Bearer fixture-a")),
        ("x-api-key", (b"x-api-key", b"fixture-a")),
        ("api-key", (b"api-key", b"fixture-a")),
        ("of-a-later-version", None),
    ],
)
def test_a_credential_is_sent_in_the_header_of_its_provider(
    providers: BucketProviderRegistry, auth: str, line: tuple[bytes, bytes] | None
) -> None:
    """Also where the provider is registered again with another one; what this version does not know is not used."""
    entry = ProviderEntry(provider=PROVIDER, kind="x", base_url=URL, allow_insecure=False, revision=2, auth=auth)
    providers.apply_providers([Entry("p", encode(entry), 2)], loaded=True)
    found = providers.headers(CredentialId("a"))
    assert (found.pairs[0] if found else None) == line
    assert providers.pool(PROVIDER).ready(0.0) is (line is not None)
    tried = [Attempt(credential=CredentialId("a"), status=401, sent=True, duration_ms=1)]
    assert providers.redact(tried, b"no such key: fixture-a") == b"no such key: [redacted]"


def test_a_word_that_stands_for_no_credential_is_left_in_answers() -> None:
    """Some providers take any word, and their users write `EMPTY` or `ollama`."""
    made = BucketProviderRegistry(lambda entry: entry.encrypted)
    entry = ProviderEntry(provider=PROVIDER, kind="openai", base_url=URL, allow_insecure=False, revision=1)
    made.apply_providers([Entry("p", encode(entry), 1)], loaded=True)
    made.apply_prices([], loaded=True)
    made.apply_credentials([credential("a")], loaded=True)
    tried = [Attempt(credential=CredentialId("a"), status=200, sent=True, duration_ms=1)]
    text = b'{"content": "how opaque it was"}'
    assert made.redact(tried, text) == text
