"""Events as budget, keys and edges write them, in frames, for the tests of audit."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from keyforge.audit.core.fold import Fold
from keyforge.audit.core.sealed import Sealed, UnreadableMessage
from keyforge.chain.seal import MasterKey
from keyforge.chain.verify import Stored
from keyforge.contracts import events, frame, subjects
from keyforge.contracts.events import Event
from keyforge.contracts.frame import Recorded
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
from keyforge.contracts.limits import Amounts, Debit, key_scope
from keyforge.contracts.usage import UnitPrices, Usage
from keyforge.testkit.encrypted_names import encrypted

MASTER = MasterKey(1, bytes(range(32)))
NOW = datetime(2030, 1, 1, 12, 0, 0, 250_000, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TENANT = TenantId("acme")
KEY = KeyId("Key000000001")
EDGE = EdgeId("edge-0")
PROVIDER, MODEL = ProviderId("openai"), ModelName("gpt-4o-mini")
PRICES = UnitPrices(
    input_nusd=150_000_000,
    cache_read_nusd=75_000_000,
    cache_write_1h_nusd=300_000_000,
    cache_write_nusd=150_000_000,
    input_audio_nusd=150_000_000,
    output_nusd=600_000_000,
    reasoning_nusd=600_000_000,
    output_audio_nusd=600_000_000,
)
RESERVED = Amounts(nusd=2_250_000, tokens=5_000)
USED = Usage(input_tokens=1_000, output_tokens=500)
COST_NUSD = PRICES.cost_nusd(USED)


class Sent(NamedTuple):
    """A message as the log holds it."""

    subject: str
    at: datetime
    data: bytes


def rid(number: int) -> RequestId:
    return RequestId(f"0192f0c8-1111-7222-8333-{number:012x}")


def recorded(id_: str, event: Event, *, source: str = "test", at: datetime = NOW) -> Recorded:
    return Recorded(id_, source, at, event)


def sent(subject: str, *events_: Recorded, at: datetime = NOW) -> Sent:
    return Sent(subject, at, frame.encode(events_))


def tenant_created(tenant: str = TENANT, *, partition: int = 0) -> Recorded:
    event = events.TenantCreated(
        tenant=TenantId(tenant),
        name=encrypted("Acme"),
        plan="free",
        partition=partition,
        limits=(),
        revision=1,
        secret_version=1,
        by=TokenId("op"),
    )
    return recorded(f"{tenant}.1", event, source="keys")


def key_created(key_id: str = KEY, *, tenant: str = TENANT) -> Recorded:
    event = events.KeyCreated(
        key_id=KeyId(key_id),
        tenant=TenantId(tenant),
        name=encrypted("agent"),
        digest="00" * 32,
        models=None,
        limits=(),
        max_output_tokens=None,
        expires_at=None,
        revision=1,
        secret_version=1,
        by=TokenId("op"),
    )
    return recorded(f"{key_id}.1", event, source="keys")


def key_revoked(key_id: str = KEY, *, tenant: str = TENANT, revision: int = 2) -> Recorded:
    event = events.KeyRevoked(
        key_id=KeyId(key_id),
        tenant=TenantId(tenant),
        reason=encrypted("lost"),
        revision=revision,
        secret_version=1,
        by=TokenId("op"),
    )
    return recorded(f"{key_id}.{revision}", event, source="keys")


def fenced(epoch: int = 1, *, partition: int = 0) -> Recorded:
    event = events.PartitionFenced(partition=partition, epoch=epoch, owner=OwnerId("budget-0"))
    return recorded(f"p{partition}.{epoch}", event, source="budget/budget-0")


def admitted(
    number: int,
    *,
    key_id: str = KEY,
    tenant: str = TENANT,
    edge: str = EDGE,
    deadline: datetime = NOW + timedelta(minutes=10),
    reserved: Amounts = RESERVED,
    at: datetime = NOW,
) -> Recorded:
    event = events.RequestAdmitted(
        request_id=rid(number),
        tenant=TenantId(tenant),
        key_id=KeyId(key_id),
        policy_revision=1,
        endpoint="chat.completions",
        provider=PROVIDER,
        model=MODEL,
        price_id=PriceId("p1"),
        prices=PRICES,
        reserved=reserved,
        debits=(Debit(amount=reserved.nusd, limit="usd/month", scope=key_scope(KeyId(key_id)), window_id=24360),),
        body_commitment="ab" * 32,
        idempotency_hash=None,
        secret_version=1,
        edge=EdgeId(edge),
        epoch=1,
        deadline=deadline,
    )
    return recorded(f"{rid(number)}.admitted", event, source="budget/budget-0", at=at)


def completed(
    number: int,
    *,
    usage: Usage | None = USED,
    key_id: str = KEY,
    tenant: str = TENANT,
    edge: str = EDGE,
    status: int = 200,
    duration_ms: int = 321,
) -> Recorded:
    event = events.RequestCompleted(
        request_id=rid(number),
        tenant=TenantId(tenant),
        key_id=KeyId(key_id),
        edge=EdgeId(edge),
        status=status,
        outcome="ok",
        usage=usage,
        usage_source="provider" if usage else "bound",
        reported_cost_nusd=None,
        attempts=(events.Attempt(credential=CredentialId("c1"), status=200, sent=True, duration_ms=320),),
        response_commitment="cd" * 32,
        secret_version=1,
        first_byte_ms=100,
        duration_ms=duration_ms,
    )
    return recorded(f"{rid(number)}.completed", event, source=f"edge/{edge}")


def cancelled(
    number: int, *, key_id: str = KEY, tenant: str = TENANT, edge: str = EDGE, deadline: datetime = NOW
) -> Recorded:
    event = events.RequestCancelled(
        request_id=rid(number),
        tenant=TenantId(tenant),
        key_id=KeyId(key_id),
        edge=EdgeId(edge),
        reason="no answer",
        deadline=deadline,
    )
    return recorded(f"{rid(number)}.cancelled", event, source=f"edge/{edge}")


def abandoned(number: int, *, key_id: str = KEY, tenant: str = TENANT) -> Recorded:
    event = events.RequestAbandoned(request_id=rid(number), tenant=TenantId(tenant), key_id=KeyId(key_id))
    return recorded(f"{rid(number)}.abandoned", event, source="budget/budget-0")


def refused(number: int, *, key_id: str = KEY, tenant: str = TENANT, edge: str = EDGE) -> Recorded:
    event = events.RequestRefused(
        request_id=rid(number),
        tenant=TenantId(tenant),
        key_id=KeyId(key_id),
        edge=EdgeId(edge),
        reason="budget_exceeded",
        count=3,
    )
    return recorded(f"{rid(number)}.refused", event, source=f"edge/{edge}")


def overran(number: int, *, key_id: str = KEY, tenant: str = TENANT) -> Recorded:
    event = events.RequestOverran(
        request_id=rid(number),
        tenant=TenantId(tenant),
        key_id=KeyId(key_id),
        provider=PROVIDER,
        model=MODEL,
        reserved=RESERVED,
        settled=Amounts(nusd=9_000_000, tokens=9_000),
    )
    return recorded(f"{rid(number)}.overran", event, source="budget/budget-0")


def price_set() -> Recorded:
    event = events.PriceSet(
        provider=PROVIDER,
        model=MODEL,
        price_id=PriceId("p1"),
        prices=PRICES,
        max_output_tokens=None,
        context_tokens=None,
        source="test",
        by=TokenId("op"),
    )
    return recorded("openai.1", event, source="keys")


def ctl(*events_: Recorded, partition: int = 0, at: datetime = NOW) -> Sent:
    return sent(subjects.ctl(partition), *events_, at=at)


def adm(*events_: Recorded, partition: int = 0, at: datetime = NOW) -> Sent:
    return sent(subjects.adm(partition), *events_, at=at)


def use(*events_: Recorded, partition: int = 0, edge: str = EDGE, at: datetime = NOW) -> Sent:
    return sent(subjects.use(partition, EdgeId(edge)), *events_, at=at)


def begun(*, partition: int = 0) -> Sent:
    """A tenant and its key exist."""
    return ctl(tenant_created(partition=partition), key_created(), partition=partition)


def nanoseconds(at: datetime) -> int:
    return (at - EPOCH) // timedelta(microseconds=1) * 1000


def fold(messages: Sequence[Sent], *, partition: int = 0, into: Fold | None = None, after: int = 0) -> Sealed:
    """Fold messages with sequences after `after`; all that came of them."""
    folding = into or Fold(partition, MASTER)
    out = Sealed()
    for sequence, message in enumerate(messages, after + 1):
        unreadable = fold_one(folding, sequence, message, out)
        assert unreadable is None, unreadable
    return out


def fold_one(folding: Fold, sequence: int, message: Sent, out: Sealed) -> UnreadableMessage | None:
    """Fold one message into `out`."""
    return folding.fold(sequence, message.subject, nanoseconds(message.at), message.data, out)


def of_newer_version(message: Sent) -> Sent:
    """The message as a newer writer sends it: its types have a version that nobody here knows."""
    return message._replace(data=message.data.replace(b".v1", b".v99"))


def decode_newer(data: bytes, subject: str, *, bodies: bool = False) -> list[Recorded | frame.Unread]:
    """What a newer version of audit has in place of `frame.decode`: it reads those types."""
    return decode_now(data.replace(b".v99", b".v1"), subject, bodies=bodies)


decode_now = frame.decode


def stored(sealed: Sealed, chain: str) -> list[Stored]:
    """The records of one chain, as a store gives them back."""
    return [Stored(r.header, r.hash, r.mac, r.body) for r in sealed.records if r.chain.name == chain]
