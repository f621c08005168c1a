"""The fold of keys, what it shows of it, and which of two entries stands."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyforge.contracts import subjects
from keyforge.contracts.directory import CredentialEntry, KeyEntry, PriceBook, PriceEntry, TokenEntry
from keyforge.contracts.events import (
    EVENTS,
    CredentialAdded,
    CredentialRevoked,
    Event,
    KeyCreated,
    KeyRevoked,
    ModelResumed,
    OperatorCreated,
    OperatorRevoked,
    PartitionFenced,
    RequestAbandoned,
    TenantCreated,
    TenantUpdated,
)
from keyforge.contracts.ids import (
    CredentialId,
    KeyId,
    ModelName,
    OwnerId,
    PriceId,
    ProviderId,
    RequestId,
    TenantId,
    TokenId,
)
from keyforge.contracts.personal_fields import EncryptedField
from keyforge.contracts.usage import UnitPrices
from keyforge.keys.core.entries import entry_of, later
from keyforge.keys.core.evolve import HistoryError, aggregate_of, evolve
from keyforge.keys.core.facts import Change, Credential, Fact, Key, OperatorToken, Tenant
from keyforge.keys.core.names import operators_of
from keyforge.keys.outbound.fact_cache import FactCache
from keyforge.keys.outbound.recorder import Facts
from keyforge.testkit.encrypted_names import encrypted

NOW = datetime(2030, 1, 1, tzinfo=UTC)
TOKEN = TokenId("t")


def created(tenant: str = "acme") -> TenantCreated:
    return TenantCreated(
        tenant=TenantId(tenant),
        name=encrypted("A"),
        plan="free",
        partition=2,
        limits=(),
        revision=1,
        secret_version=1,
        by=TOKEN,
    )


def updated(revision: int) -> TenantUpdated:
    return TenantUpdated(
        tenant=TenantId("acme"),
        name=encrypted("B"),
        plan="free",
        status="suspended",
        limits=(),
        revision=revision,
        secret_version=3,
        by=TOKEN,
    )


def issued(key: str) -> KeyCreated:
    return KeyCreated(
        key_id=KeyId(key),
        tenant=TenantId("acme"),
        name=encrypted("k"),
        digest="d",
        models=None,
        limits=(),
        max_output_tokens=None,
        expires_at=None,
        revision=1,
        secret_version=1,
        by=TOKEN,
    )


def revoked(key: str) -> KeyRevoked:
    return KeyRevoked(
        key_id=KeyId(key), tenant=TenantId("acme"), reason=encrypted("lost"), revision=2, secret_version=4, by=TOKEN
    )


def change(event: Event, version: int, *, at: datetime = NOW, id_: str = "") -> Change:
    return Change(id_ or aggregate_of(event) or "", version, at, event)


def test_a_tenant_and_its_history() -> None:
    first = evolve(None, change(created(), 1))
    second = evolve(first, change(updated(2), 2, at=NOW + timedelta(seconds=1)))
    assert isinstance(second, Tenant)
    assert second.name == EncryptedField(text=encrypted("B"), secret_version=3)
    assert (second.status, second.partition, second.version) == ("suspended", 2, 2)
    assert (second.created_at, second.updated_at) == (NOW, NOW + timedelta(seconds=1))


def test_a_clock_that_steps_back_moves_no_fact_back() -> None:
    first = evolve(None, change(created(), 1))
    assert evolve(first, change(updated(2), 2, at=NOW - timedelta(days=1))).updated_at == NOW


@pytest.mark.parametrize(
    ("fact", "next_"),
    [
        pytest.param(None, change(updated(1), 1), id="a change of what never was"),
        pytest.param(None, change(created(), 2), id="does not begin with the first"),
        pytest.param(evolve(None, change(created(), 1)), change(created(), 2), id="begins twice"),
        pytest.param(evolve(None, change(created(), 1)), change(updated(3), 3), id="a version skipped"),
        pytest.param(evolve(None, change(created(), 1)), change(updated(1), 1), id="a version repeated"),
        pytest.param(evolve(None, change(created(), 1)), change(updated(3), 2), id="revision and version differ"),
        pytest.param(None, change(created(), 1, id_="tenant:other"), id="another's envelope"),
    ],
)
def test_what_does_not_follow_is_no_history(fact: Fact | None, next_: Change) -> None:
    with pytest.raises(HistoryError):
        evolve(fact, next_)


def test_every_event_of_keys_belongs_to_an_aggregate_and_no_other_does() -> None:
    fence = PartitionFenced(partition=0, epoch=1, owner=OwnerId("o"))
    abandoned = RequestAbandoned(request_id=RequestId("r"), tenant=TenantId("t"), key_id=KeyId("k"))
    assert aggregate_of(fence) is aggregate_of(abandoned) is None
    ours = {type_ for type_, event in EVENTS.items() if event.WRITER in ("ctl", "platform")}
    examples = (created(), updated(1), issued("k"), revoked("k"))
    resumed = ModelResumed(tenant=TenantId("t"), provider=ProviderId("p"), model=ModelName("m/n"), by=TOKEN)
    assert [aggregate_of(event) for event in examples] == ["tenant:acme", "tenant:acme", "key:k", "key:k"]
    assert aggregate_of(resumed) == "resumption:t/p/m/n"
    assert len(ours) == 14


def test_a_book_counts_what_is_live_with_what_is_staged() -> None:
    facts = Facts(subjects.ctl(0))
    facts.accept(change(created(), 1))
    facts.accept(change(issued("a"), 1))
    facts.stage(change(issued("b"), 1))
    assert facts.cache.live("keys/acme") == 2
    assert [fact.id for fact in facts.cache.listed("keys/acme")] == ["key:a"]
    facts.stage(change(revoked("a"), 2))
    assert facts.cache.live("keys/acme") == 1
    facts.rollback()
    assert facts.cache.live("keys/acme") == 1
    assert facts.find("key:b") is None
    facts.stage(change(revoked("a"), 2))
    facts.commit()
    assert facts.cache.live("keys/acme") == 0
    ended = facts.find("key:a")
    assert isinstance(ended, Key)
    assert ended.reason == EncryptedField(text=encrypted("lost"), secret_version=4)
    first = facts.find("key:a", version=1)
    assert isinstance(first, Key)
    assert first.status == "active"


def test_a_shelf_in_pages() -> None:
    book = FactCache()
    for n in range(5):
        book.accept(evolve(None, change(issued(str(n)), 1)))
    assert [fact.id for fact in book.listed("keys/acme", after="key:1", limit=2)] == ["key:2", "key:3"]
    assert book.listed("keys/acme", after="key:9") == []


def entry(revision: int) -> KeyEntry:
    return KeyEntry(
        key_id=KeyId("k"),
        tenant=TenantId("t"),
        partition=0,
        digest="d",
        status="active",
        models=None,
        max_output_tokens=None,
        expires_at=None,
        revision=revision,
    )


PRICES = UnitPrices(
    input_nusd=1,
    cache_read_nusd=1,
    cache_write_1h_nusd=1,
    cache_write_nusd=1,
    input_audio_nusd=1,
    output_nusd=1,
    reasoning_nusd=1,
    output_audio_nusd=1,
)


def book(versions: dict[str, int]) -> PriceBook:
    models = {
        ModelName(model): PriceEntry(
            price_id=PriceId(f"p/{model}@{version}"), prices=PRICES, max_output_tokens=None, context_tokens=None
        )
        for model, version in versions.items()
    }
    return PriceBook(provider=ProviderId("p"), models=models)


def test_the_later_entry_stands() -> None:
    assert later(None, entry(1)) == entry(1)
    assert later(entry(1), entry(2)) == entry(2)
    assert later(entry(3), entry(2)) == entry(3)
    token = TokenEntry(token_id=TOKEN, digest="d", role="platform-admin")
    assert later(token, token) == token
    assert later(token, entry(1)) == entry(1)


versions = st.dictionaries(st.sampled_from("abc"), st.integers(1, 4))


@given(versions, versions)
def test_price_books_move_forward_model_by_model(one: dict[str, int], other: dict[str, int]) -> None:
    joined = {model: max(one.get(model, 0), other.get(model, 0)) for model in one.keys() | other.keys()}
    assert later(book(one), book(other)) == later(book(other), book(one)) == book(joined)


def test_operators_are_found_by_their_token() -> None:
    event = OperatorCreated(token_id=TokenId("x"), role="platform-admin", digest="d", by=TOKEN)
    assert evolve(None, change(event, 1)).id == "operator:x"


def test_the_admins_that_are_left_are_counted_with_what_is_staged() -> None:
    facts = Facts(subjects.PLATFORM_CTL)
    for name in ("a", "b"):
        event = OperatorCreated(token_id=TokenId(name), role="platform-admin", digest="d", by=TOKEN)
        facts.accept(change(event, 1))
    facts.stage(change(OperatorRevoked(token_id=TokenId("a"), reason="", by=TOKEN), 2))
    assert facts.cache.live(operators_of("platform-admin")) == 1
    assert facts.cache.live(operators_of("platform-auditor")) == 0


def test_what_is_revoked_is_shown_as_such_and_no_older_entry_undoes_it() -> None:
    added = CredentialAdded(
        credential=CredentialId("c"),
        provider=ProviderId("p"),
        base_url="https://example.com",
        encrypted="encrypted",
        encrypted_to="k",
        weight=1,
        quota_group="c",
        version=1,
        by=TOKEN,
    )
    revoked = CredentialRevoked(credential=added.credential, provider=added.provider, reason="", by=TOKEN)
    issued = OperatorCreated(token_id=TokenId("x"), role="platform-admin", digest="d", by=TOKEN)
    ended = OperatorRevoked(token_id=TokenId("x"), reason="", by=TOKEN)
    for begin, end in ((added, revoked), (issued, ended)):
        before = evolve(None, change(begin, 1))
        after = evolve(before, change(end, 2))
        assert isinstance(before, Credential | OperatorToken)
        assert isinstance(after, Credential | OperatorToken)
        assert (before.live, after.live, after.version) == (True, False, 2)
        old, new = entry_of(before, 0), entry_of(after, 0)
        assert later(old, new) == later(new, old) == new
        assert isinstance(new, CredentialEntry | TokenEntry)
        assert new.status == "revoked"
        assert getattr(new, "encrypted", "") == "", "nobody can open it any more"
