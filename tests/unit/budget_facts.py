"""Facts about one tenant for the tests of budget: short makers of events, asks and folds."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from keyforge.budget.core.admit import Outcome, admit
from keyforge.budget.core.decision_time import DecisionTime
from keyforge.budget.core.fold import Halt, Rejected, fold
from keyforge.budget.core.holds import Holds
from keyforge.budget.core.ledger import Ledger
from keyforge.contracts import subjects
from keyforge.contracts.events import (
    Event,
    KeyCreated,
    KeyRevoked,
    KeyUpdated,
    ModelResumed,
    PartitionFenced,
    RequestAbandoned,
    RequestAdmitted,
    RequestCancelled,
    RequestCompleted,
    TenantCreated,
    TenantStatus,
    TenantUpdated,
)
from keyforge.contracts.frame import Recorded
from keyforge.contracts.ids import EdgeId, KeyId, ModelName, OwnerId, PriceId, ProviderId, RequestId, TenantId, TokenId
from keyforge.contracts.limits import Limit, Unit, Window
from keyforge.contracts.reserve import Reserve
from keyforge.contracts.usage import UnitPrices, Usage
from keyforge.testkit.encrypted_names import encrypted

T0 = datetime(2026, 11, 23, 12, 0, 30, tzinfo=UTC)
TENANT, KEY, EDGE, OWNER, BY = TenantId("acme"), KeyId("key1"), EdgeId("edge-0"), OwnerId("budget-0"), TokenId("op1")
PROVIDER, MODEL = ProviderId("sim"), ModelName("small")
PRICES = UnitPrices(
    input_nusd=1_000_000,
    cache_read_nusd=1_000_000,
    cache_write_1h_nusd=1_000_000,
    cache_write_nusd=1_000_000,
    input_audio_nusd=1_000_000,
    output_nusd=1_000_000,
    reasoning_nusd=1_000_000,
    output_audio_nusd=1_000_000,
)
"""A token costs one nano-dollar, so that money and tokens are easy to read in a test."""
TTL_MS = 60_000


def after(seconds: float) -> datetime:
    """So many seconds after T0."""
    return T0 + timedelta(seconds=seconds)


def cap(unit: Unit, window: Window, amount: int) -> Limit:
    return Limit(unit=unit, window=window, cap=amount)


def tenant_created(*limits: Limit, tenant: TenantId = TENANT) -> TenantCreated:
    return TenantCreated(
        tenant=tenant, name=encrypted(""), plan="", partition=0, limits=limits, revision=1, secret_version=1, by=BY
    )


def tenant_updated(*limits: Limit, status: TenantStatus = "active", revision: int = 2) -> TenantUpdated:
    return TenantUpdated(
        tenant=TENANT,
        name=encrypted(""),
        plan="",
        status=status,
        limits=limits,
        revision=revision,
        secret_version=1,
        by=BY,
    )


def key_created(
    *limits: Limit, key_id: KeyId = KEY, tenant: TenantId = TENANT, expires_at: datetime | None = None
) -> KeyCreated:
    return KeyCreated(
        key_id=key_id,
        tenant=tenant,
        name=encrypted(""),
        digest="00",
        models=None,
        limits=limits,
        max_output_tokens=None,
        expires_at=expires_at,
        revision=1,
        secret_version=1,
        by=BY,
    )


def key_updated(*limits: Limit, key_id: KeyId = KEY, revision: int = 2) -> KeyUpdated:
    return KeyUpdated(
        key_id=key_id,
        tenant=TENANT,
        name=encrypted(""),
        models=None,
        limits=limits,
        max_output_tokens=None,
        expires_at=None,
        revision=revision,
        secret_version=1,
        by=BY,
    )


def key_revoked(*, key_id: KeyId = KEY, revision: int = 2) -> KeyRevoked:
    return KeyRevoked(key_id=key_id, tenant=TENANT, reason=None, revision=revision, secret_version=None, by=BY)


def fenced(epoch: int, owner: OwnerId = OWNER, partition: int = 0) -> PartitionFenced:
    return PartitionFenced(partition=partition, epoch=epoch, owner=owner)


def resumed() -> ModelResumed:
    return ModelResumed(tenant=TENANT, provider=PROVIDER, model=MODEL, by=BY)


def rid(number: int | str) -> RequestId:
    """The id of request `number`."""
    return RequestId(f"r-{number}")


def ask(number: int | str, nusd: int = 10, **changed: Any) -> Reserve:
    """An ask whose worst case is `nusd` nano-dollars and as many tokens."""
    fields: dict[str, Any] = {
        "request_id": rid(number),
        "tenant": TENANT,
        "key_id": KEY,
        "policy_revision": 1,
        "endpoint": "chat.completions",
        "provider": PROVIDER,
        "model": MODEL,
        "price_id": PriceId("p1"),
        "prices": PRICES,
        "worst_nusd": nusd,
        "worst_tokens": nusd,
        "ttl_ms": TTL_MS,
        "body_commitment": f"body {number}",
        "idempotency_hash": None,
        "secret_version": 1,
    }
    return Reserve(**(fields | changed))


def completed(
    number: int | str,
    used: int | None,
    *,
    edge: EdgeId = EDGE,
    key_id: KeyId = KEY,
    may_be_repeated: bool = False,
) -> RequestCompleted:
    """A completion that used `used` tokens, which cost as many nano-dollars; None: nobody knows."""
    return RequestCompleted(
        request_id=rid(number),
        tenant=TENANT,
        key_id=key_id,
        edge=edge,
        status=200,
        outcome="ok",
        usage=None if used is None else Usage(output_tokens=used),
        usage_source="bound" if used is None else "provider",
        reported_cost_nusd=None,
        attempts=(),
        response_commitment="",
        may_be_repeated=may_be_repeated,
        secret_version=1,
        first_byte_ms=1,
        duration_ms=2,
    )


def cancelled(
    number: int | str, *, edge: EdgeId = EDGE, key_id: KeyId = KEY, deadline: datetime | None = None
) -> RequestCancelled:
    return RequestCancelled(
        request_id=rid(number),
        tenant=TENANT,
        key_id=key_id,
        edge=edge,
        reason="test",
        deadline=deadline or after(60),
    )


def abandoned(number: int | str, *, key_id: KeyId = KEY) -> RequestAbandoned:
    return RequestAbandoned(request_id=rid(number), tenant=TENANT, key_id=key_id)


class Story:
    """A log from its beginning, and the ledger that folded it. Time stands until a test moves it."""

    def __init__(self, *events: Event) -> None:
        self.ledger = Ledger(0)
        self.holds = Holds()
        self.now = T0
        self.messages: list[tuple[str, datetime, list[Recorded]]] = []
        if events:
            self.ctl(*events)

    def ctl(self, *events: Event) -> list[Rejected]:
        return self.append(subjects.ctl(0), *events)

    def adm(self, *events: Event) -> list[Rejected]:
        return self.append(subjects.adm(0), *events)

    def use(self, *events: Event, edge: EdgeId = EDGE) -> list[Rejected]:
        return self.append(subjects.use(0, edge), *events)

    def append(self, subject: str, *events: Event) -> list[Rejected]:
        """Append one message and fold it."""
        recorded = [Recorded(f"{len(self.messages)}.{i}", "test", self.now, event) for i, event in enumerate(events)]
        self.messages.append((subject, self.now, recorded))
        return self.fold_last()

    def held(self) -> dict[int, int]:
        """Everything that is held anywhere, by window."""
        scopes = [key.scope for key in self.ledger.keys.values()] + [t.scope for t in self.ledger.tenants.values()]
        return {n: amount for scope in scopes for a in scope.accounts.values() for n, amount in a.held.items()}

    def fold_last(self) -> list[Rejected]:
        subject, at, recorded = self.messages[-1]
        rejected = fold(self.ledger, len(self.messages), subject, at, recorded)
        assert not isinstance(rejected, Halt)
        return rejected

    def decide(self, one: Reserve, *, edge: EdgeId = EDGE) -> Outcome:
        """Decide an ask and leave it at that."""
        return admit(self.ledger, self.holds, one, edge, epoch=self.ledger.epoch, now=DecisionTime(self.now))

    def reserve(self, one: Reserve, *, edge: EdgeId = EDGE) -> Outcome:
        """Decide an ask; an admission is appended and folded."""
        outcome = self.decide(one, edge=edge)
        if isinstance(outcome, RequestAdmitted):
            assert not self.adm(outcome)
        return outcome

    def replay(self) -> Ledger:
        """Fold the whole log again, into a new ledger."""
        return replay(self.messages)


def replay(messages: Iterable[tuple[str, datetime, list[Recorded]]]) -> Ledger:
    ledger = Ledger(0)
    for number, (subject, at, recorded) in enumerate(messages, 1):
        assert not isinstance(fold(ledger, number, subject, at, recorded), Halt)
    return ledger
