"""The events of the log: flat, frozen, past tense, complete. A published version never changes; its golden file stays.

An event's time is in its envelope (`frame.Recorded.at`), its position in the log is given by the log.
Who may write what: `ctl` keys and owners (fences), `adm` the owner, `use` edges, platform keys.
"""

from datetime import datetime
from typing import Annotated, ClassVar, Final, Literal

import msgspec

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
from keyforge.contracts.limits import Amounts, Debit, Limit
from keyforge.contracts.usage import UnitPrices, Usage

Moment = Annotated[datetime, msgspec.Meta(tz=True)]
"""Aware: one without a zone would mean another time on each machine that folds it, or none at all."""
Writer = Literal["ctl", "adm", "use", "platform"]
KeyStatus = Literal["active", "revoked"]
"""Of a key, a credential, an operator's token: revoked is for good."""
TenantStatus = Literal["active", "suspended"]
UsageSource = Literal["provider", "bound", "none"]
Endpoint = Literal["chat.completions", "embeddings"]
Role = Literal["platform-admin", "platform-auditor"]


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A fact. `TYPE` is its name on the wire, `WRITER` the last word of the subject that it is believed on."""

    TYPE: ClassVar[str] = ""
    WRITER: ClassVar[Writer] = "ctl"


# --- ctl: what changes what may be admitted ---------------------------------------------------------------------------


class PartitionFenced(Event, frozen=True, kw_only=True):
    """An owner took the partition, or made sure of what its last append came to. Ends every earlier epoch."""

    TYPE: ClassVar[str] = "keyforge.partition.fenced.v1"

    partition: int
    epoch: int
    owner: OwnerId


class TenantCreated(Event, frozen=True, kw_only=True):
    """A tenant exists, in this partition."""

    TYPE: ClassVar[str] = "keyforge.tenant.created.v1"

    tenant: TenantId
    name: str
    plan: str
    partition: int
    limits: tuple[Limit, ...]
    revision: int
    by: TokenId


class TenantUpdated(Event, frozen=True, kw_only=True):
    """A tenant's settings are now these, all of them."""

    TYPE: ClassVar[str] = "keyforge.tenant.updated.v1"

    tenant: TenantId
    name: str
    plan: str
    status: TenantStatus
    limits: tuple[Limit, ...]
    revision: int
    by: TokenId


class KeyCreated(Event, frozen=True, kw_only=True):
    """A key was issued. `digest` is the keyed hash of its text (hex); `models` None means every priced model."""

    TYPE: ClassVar[str] = "keyforge.key.created.v1"

    key_id: KeyId
    tenant: TenantId
    name: str
    digest: str
    models: tuple[str, ...] | None
    limits: tuple[Limit, ...]
    max_output_tokens: int | None
    expires_at: Moment | None
    revision: int
    by: TokenId


class KeyUpdated(Event, frozen=True, kw_only=True):
    """A key's policy is now this, all of it."""

    TYPE: ClassVar[str] = "keyforge.key.updated.v1"

    key_id: KeyId
    tenant: TenantId
    name: str
    models: tuple[str, ...] | None
    limits: tuple[Limit, ...]
    max_output_tokens: int | None
    expires_at: Moment | None
    revision: int
    by: TokenId


class KeyRevoked(Event, frozen=True, kw_only=True):
    """A key ended. Nothing is admitted on it behind this position."""

    TYPE: ClassVar[str] = "keyforge.key.revoked.v1"

    key_id: KeyId
    tenant: TenantId
    reason: str
    revision: int
    by: TokenId


class ModelResumed(Event, frozen=True, kw_only=True):
    """An operator lifted the freeze that an overrun put on a model for a tenant."""

    TYPE: ClassVar[str] = "keyforge.model.resumed.v1"

    tenant: TenantId
    provider: ProviderId
    model: ModelName
    by: TokenId


# --- adm: what the owner decided --------------------------------------------------------------------------------------


class RequestAdmitted(Event, frozen=True, kw_only=True):
    """Money was set aside for one request. Written by budget before any byte goes to a provider."""

    TYPE: ClassVar[str] = "keyforge.request.admitted.v1"
    WRITER: ClassVar[Writer] = "adm"

    request_id: RequestId
    tenant: TenantId
    key_id: KeyId
    policy_revision: int
    endpoint: Endpoint
    provider: ProviderId
    model: ModelName
    price_id: PriceId
    prices: UnitPrices
    reserved: Amounts
    debits: tuple[Debit, ...]
    body_commitment: str
    idempotency_hash: str | None
    edge: EdgeId
    epoch: int
    deadline: Moment


class RequestAbandoned(Event, frozen=True, kw_only=True):
    """The deadline passed without a word from the edge: the reservation counts as spent."""

    TYPE: ClassVar[str] = "keyforge.request.abandoned.v1"
    WRITER: ClassVar[Writer] = "adm"

    request_id: RequestId
    tenant: TenantId
    key_id: KeyId


class RequestOverran(Event, frozen=True, kw_only=True):
    """A provider billed more than was reserved: charged, and the model frozen for the tenant."""

    TYPE: ClassVar[str] = "keyforge.request.overran.v1"
    WRITER: ClassVar[Writer] = "adm"

    request_id: RequestId
    tenant: TenantId
    key_id: KeyId
    provider: ProviderId
    model: ModelName
    reserved: Amounts
    settled: Amounts


# --- use: what an edge saw --------------------------------------------------------------------------------------------


class Attempt(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One physical call of a provider. `status` 0: no answer. `sent`: whether any byte of the request left."""

    credential: CredentialId
    status: int
    sent: bool
    duration_ms: int
    error: str | None = None


class RequestCompleted(Event, frozen=True, kw_only=True):
    """A request ended, and this is what it used. It is the settlement: the fold computes cost = usage x pinned prices.

    `usage` None: not known, so the reservation counts as spent. `usage_source` "none" with a zero usage: the provider
    refused and billed nothing.
    """

    TYPE: ClassVar[str] = "keyforge.request.completed.v1"
    WRITER: ClassVar[Writer] = "use"

    request_id: RequestId
    tenant: TenantId
    key_id: KeyId
    edge: EdgeId
    status: int
    outcome: str
    usage: Usage | None
    usage_source: UsageSource
    reported_cost_nusd: int | None
    attempts: tuple[Attempt, ...]
    response_commitment: str
    first_byte_ms: int
    duration_ms: int


class RequestCancelled(Event, frozen=True, kw_only=True):
    """The edge gave a request up before any byte went to a provider: it costs nothing, whenever it is admitted."""

    TYPE: ClassVar[str] = "keyforge.request.cancelled.v1"
    WRITER: ClassVar[Writer] = "use"

    request_id: RequestId
    tenant: TenantId
    key_id: KeyId
    edge: EdgeId
    reason: str
    deadline: Moment


class RequestRefused(Event, frozen=True, kw_only=True):
    """Requests of one key were refused for one reason: `count` since the last such event, `request_id` the first."""

    TYPE: ClassVar[str] = "keyforge.request.refused.v1"
    WRITER: ClassVar[Writer] = "use"

    request_id: RequestId
    tenant: TenantId
    key_id: KeyId
    edge: EdgeId
    reason: str
    count: int


# --- platform: what belongs to no tenant ------------------------------------------------------------------------------


class ProviderRegistered(Event, frozen=True, kw_only=True):
    """A provider can be called, at this address; replaces an earlier registration of the same id."""

    TYPE: ClassVar[str] = "keyforge.provider.registered.v1"
    WRITER: ClassVar[Writer] = "platform"

    provider: ProviderId
    kind: str
    base_url: str
    allow_insecure: bool
    revision: int
    by: TokenId


class CredentialAdded(Event, frozen=True, kw_only=True):
    """A credential was sealed to the edges' public key. `sealed` (base64) can be opened by edges alone."""

    TYPE: ClassVar[str] = "keyforge.credential.added.v1"
    WRITER: ClassVar[Writer] = "platform"

    credential: CredentialId
    provider: ProviderId
    base_url: str
    sealed: str
    sealed_to: str
    weight: int
    quota_group: str
    version: int
    by: TokenId


class CredentialRevoked(Event, frozen=True, kw_only=True):
    """A credential ended: no edge uses it for another call."""

    TYPE: ClassVar[str] = "keyforge.credential.revoked.v1"
    WRITER: ClassVar[Writer] = "platform"

    credential: CredentialId
    provider: ProviderId
    reason: str
    by: TokenId


class PriceSet(Event, frozen=True, kw_only=True):
    """A model of a provider has this price from here on; it also makes the model known."""

    TYPE: ClassVar[str] = "keyforge.price.set.v1"
    WRITER: ClassVar[Writer] = "platform"

    provider: ProviderId
    model: ModelName
    price_id: PriceId
    prices: UnitPrices
    max_output_tokens: int | None
    context_tokens: int | None
    source: str
    by: TokenId


class TenantPlaced(Event, frozen=True, kw_only=True):
    """A tenant's id was claimed for a partition: whoever makes the tenant makes it there, or it is never made."""

    TYPE: ClassVar[str] = "keyforge.tenant.placed.v1"
    WRITER: ClassVar[Writer] = "platform"

    tenant: TenantId
    partition: int
    by: TokenId


class OperatorCreated(Event, frozen=True, kw_only=True):
    """A token for the operators' API was issued. `digest` is its keyed hash (hex)."""

    TYPE: ClassVar[str] = "keyforge.operator.created.v1"
    WRITER: ClassVar[Writer] = "platform"

    token_id: TokenId
    role: Role
    digest: str
    by: TokenId


class OperatorRevoked(Event, frozen=True, kw_only=True):
    """A token for the operators' API ended: no service takes it any more."""

    TYPE: ClassVar[str] = "keyforge.operator.revoked.v1"
    WRITER: ClassVar[Writer] = "platform"

    token_id: TokenId
    reason: str
    by: TokenId


EVENTS: Final[dict[str, type[Event]]] = {
    event.TYPE: event
    for event in (
        PartitionFenced,
        TenantCreated,
        TenantUpdated,
        KeyCreated,
        KeyUpdated,
        KeyRevoked,
        ModelResumed,
        RequestAdmitted,
        RequestAbandoned,
        RequestOverran,
        RequestCompleted,
        RequestCancelled,
        RequestRefused,
        ProviderRegistered,
        CredentialAdded,
        CredentialRevoked,
        PriceSet,
        TenantPlaced,
        OperatorCreated,
        OperatorRevoked,
    )
}
"""Every event there is, by its type."""
