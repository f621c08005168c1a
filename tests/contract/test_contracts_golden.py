"""A published event never changes: each has a golden file, read and written here byte for byte."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from keyforge.contracts import events as e
from keyforge.contracts import frame
from keyforge.contracts.ids import (
    CredentialId,
    EdgeId,
    KeyId,
    ModelName,
    OwnerId,
    PriceId,
    ProviderId,
    RequestId,
    TenantId,
    TokenId,
)
from keyforge.contracts.limits import Amounts, Debit, Limit, key_scope
from keyforge.contracts.usage import UnitPrices, Usage
from keyforge.testkit.encrypted_names import encrypted

GOLDEN = Path(__file__).parent / "golden"
AT = datetime(2026, 3, 4, 5, 6, 7, 890123, tzinfo=UTC)
REQUEST = RequestId("0195f0a0-0000-7000-8000-000000000001")
TENANT, KEY, EDGE, BY = TenantId("acme"), KeyId("0123456789AB"), EdgeId("edge-0"), TokenId("tokentoken00")
PROVIDER, MODEL = ProviderId("openai"), ModelName("gpt-4o-mini")
LIMITS = (Limit(unit="usd", window="month", cap=5_000_000_000), Limit(unit="requests", window="minute", cap=60))
PRICES = UnitPrices(
    input_nusd=150_000_000,
    cache_read_nusd=75_000_000,
    cache_write_1h_nusd=300_000_000,
    cache_write_nusd=150_000_000,
    input_audio_nusd=150_000_000,
    output_nusd=600_000_000,
    reasoning_nusd=600_000_000,
    output_audio_nusd=600_000_000,
    request_nusd=0,
)
EXPIRES = datetime(2027, 1, 1, tzinfo=UTC)

SAMPLES: list[e.Event] = [
    e.PartitionFenced(partition=2, epoch=7, owner=OwnerId("budget-0")),
    e.TenantCreated(
        tenant=TENANT,
        name=encrypted("Acme"),
        plan="free",
        partition=2,
        limits=LIMITS,
        revision=1,
        secret_version=1,
        by=BY,
    ),
    e.TenantUpdated(
        tenant=TENANT,
        name=encrypted("Acme"),
        plan="free",
        status="suspended",
        limits=(),
        revision=2,
        secret_version=1,
        by=BY,
    ),
    e.KeyCreated(
        key_id=KEY,
        tenant=TENANT,
        name=encrypted("crawler"),
        digest="ab" * 32,
        models=("gpt-4o-mini",),
        limits=LIMITS,
        max_output_tokens=512,
        expires_at=EXPIRES,
        revision=1,
        secret_version=1,
        by=BY,
    ),
    e.KeyUpdated(
        key_id=KEY,
        tenant=TENANT,
        name=encrypted("crawler"),
        models=None,
        limits=(),
        max_output_tokens=None,
        expires_at=None,
        revision=2,
        secret_version=1,
        by=BY,
    ),
    e.KeyRevoked(key_id=KEY, tenant=TENANT, reason=encrypted("leaked"), revision=3, secret_version=1, by=BY),
    e.ModelResumed(tenant=TENANT, provider=PROVIDER, model=MODEL, by=BY),
    e.RequestAdmitted(
        request_id=REQUEST,
        tenant=TENANT,
        key_id=KEY,
        policy_revision=2,
        endpoint="chat.completions",
        provider=PROVIDER,
        model=MODEL,
        price_id=PriceId("openai/gpt-4o-mini.3"),
        prices=PRICES,
        reserved=Amounts(nusd=225_900, tokens=1122),
        debits=(Debit(amount=225_900, limit="usd/month", scope=key_scope(KEY), window_id=24314),),
        body_commitment="cd" * 32,
        secret_version=1,
        idempotency_hash=None,
        edge=EDGE,
        epoch=7,
        deadline=datetime(2026, 3, 4, 5, 16, 7, 890123, tzinfo=UTC),
    ),
    e.RequestAbandoned(request_id=REQUEST, tenant=TENANT, key_id=KEY),
    e.RequestOverran(
        request_id=REQUEST,
        tenant=TENANT,
        key_id=KEY,
        provider=PROVIDER,
        model=MODEL,
        reserved=Amounts(nusd=225_900, tokens=1122),
        settled=Amounts(nusd=300_000, tokens=1400),
    ),
    e.RequestCompleted(
        request_id=REQUEST,
        tenant=TENANT,
        key_id=KEY,
        edge=EDGE,
        status=200,
        outcome="ok",
        usage=Usage(
            input_tokens=100, cache_read_tokens=20, cache_write_1h_tokens=8, output_tokens=96, reasoning_tokens=4
        ),
        usage_source="provider",
        reported_cost_nusd=None,
        attempts=(e.Attempt(credential=CredentialId("cred-1"), status=200, sent=True, duration_ms=412),),
        response_commitment="ef" * 32,
        secret_version=1,
        first_byte_ms=120,
        duration_ms=415,
    ),
    e.RequestCancelled(
        request_id=REQUEST,
        tenant=TENANT,
        key_id=KEY,
        edge=EDGE,
        reason="owner_unavailable",
        deadline=datetime(2026, 3, 4, 5, 16, 7, 890123, tzinfo=UTC),
    ),
    e.RequestRefused(request_id=REQUEST, tenant=TENANT, key_id=KEY, edge=EDGE, reason="budget_exceeded", count=12),
    e.ProviderRegistered(
        provider=PROVIDER,
        kind="openai",
        base_url="https://api.openai.com/v1",
        allow_insecure=False,
        dialects=("openai-chat",),
        auth="bearer",
        price_feed="openai",
        revision=1,
        by=BY,
    ),
    e.CredentialAdded(
        credential=CredentialId("cred-1"),
        provider=PROVIDER,
        base_url="https://api.openai.com/v1",
        encrypted="AAEC",
        encrypted_to="edge-key-1",
        weight=1,
        quota_group="default",
        version=1,
        by=BY,
    ),
    e.CredentialRevoked(credential=CredentialId("cred-1"), provider=PROVIDER, reason="leaked", by=BY),
    e.PriceSet(
        provider=PROVIDER,
        model=MODEL,
        price_id=PriceId("openai/gpt-4o-mini.3"),
        prices=PRICES,
        max_output_tokens=None,
        context_tokens=128_000,
        source="operator",
        by=BY,
    ),
    e.TenantPlaced(tenant=TENANT, partition=2, by=BY),
    e.OperatorCreated(token_id=BY, role="platform-admin", digest="01" * 32, by=BY),
    e.OperatorRevoked(token_id=TokenId("tokentoken01"), reason="left", by=BY),
]
SUBJECTS = {
    "ctl": "kf.log.2.ctl",
    "adm": "kf.log.2.adm",
    "use": "kf.log.2.use.edge-0",
    "platform": "kf.platform.ctl",
}


def golden(event: e.Event) -> Path:
    return GOLDEN / f"{event.TYPE}.json"


def frame_of(event: e.Event) -> bytes:
    return frame.encode([frame.Recorded("id-1", "source", AT, event)])


def test_every_event_has_a_sample() -> None:
    assert {type(sample).TYPE for sample in SAMPLES} == set(e.EVENTS)


def test_every_golden_file_belongs_to_an_event() -> None:
    assert {path.name for path in GOLDEN.glob("*.json")} == {f"{name}.json" for name in e.EVENTS}


@pytest.mark.parametrize("event", SAMPLES, ids=lambda event: event.TYPE)
def test_bytes_never_change(event: e.Event) -> None:
    assert frame_of(event) == golden(event).read_bytes().rstrip(b"\n")


@pytest.mark.parametrize("event", SAMPLES, ids=lambda event: event.TYPE)
def test_golden_file_is_read_back(event: e.Event) -> None:
    data = golden(event).read_bytes()
    assert frame.decode(data, SUBJECTS[event.WRITER]) == [frame.Recorded("id-1", "source", AT, event)]


@pytest.mark.parametrize("event", SAMPLES, ids=lambda event: event.TYPE)
def test_an_event_is_believed_on_its_writers_subject_alone(event: e.Event) -> None:
    for writer, subject in SUBJECTS.items():
        (read,) = frame.decode(frame_of(event), subject)
        assert isinstance(read, frame.Recorded if writer == event.WRITER else frame.Unread)


@pytest.mark.parametrize(
    ("type_", "word", "newer"),
    [
        ("keyforge.request.admitted.v1", b'"endpoint":"chat.completions"', b'"endpoint":"responses"'),
        ("keyforge.request.completed.v1", b'"usage_source":"provider"', b'"usage_source":"estimate"'),
        ("keyforge.tenant.updated.v1", b'"status":"suspended"', b'"status":"closing"'),
        ("keyforge.tenant.created.v1", b'"unit":"usd"', b'"unit":"images"'),
        ("keyforge.tenant.created.v1", b'"window":"month"', b'"window":"rolling-30d"'),
        ("keyforge.key.created.v1", b'"models":null', b'"models":"gpt-*"'),
        ("keyforge.operator.created.v1", b'"role":"platform-admin"', b'"role":"tenant-owner"'),
        ("keyforge.provider.registered.v1", b'"kind":"openai"', b'"kind":"gemini"'),
    ],
)
def test_a_word_of_a_newer_version_is_readable(type_: str, word: bytes, newer: bytes) -> None:
    """Vocabularies grow: what a reader does with a word that it does not know is for its fold to say."""
    data = (GOLDEN / f"{type_}.json").read_bytes()
    assert word in data
    subject = SUBJECTS[e.EVENTS[type_].WRITER]
    (read,) = frame.decode(data.replace(word, newer), subject)
    assert isinstance(read, frame.Recorded)
    for broken in (b'""', b'"' + b"x" * 65 + b'"', b"7"):
        (read,) = frame.decode(data.replace(word, newer.rpartition(b":")[0] + b":" + broken), subject)
        assert isinstance(read, frame.Unread)


@pytest.mark.parametrize("event", SAMPLES, ids=lambda event: event.TYPE)
def test_no_event_claims_more_objects_and_lists_than_it_has(event: e.Event) -> None:
    """And those of every request claim all of theirs, or each of their frames would be looked at closely."""
    written = frame.encode_one(frame.Recorded("id-1", "source", AT, event))
    opened = written.count(b"{") + written.count(b"[")  # the golden values hold none
    assert event.containers() <= opened
    if event.TYPE.partition(".")[2] in {"request.admitted.v1", "request.completed.v1", "request.abandoned.v1"}:
        assert event.containers() == opened
