"""The events of the log: flat, frozen, past tense, complete. A published version never changes; its golden file stays.

Fields stand in the order of their names, and so do those of every struct inside: written in that order an event is in
canonical JSON (`frame`), and the bytes in the log are those that its record hashes.

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

    epoch: int
    owner: OwnerId
    partition: int


class TenantCreated(Event, frozen=True, kw_only=True):
    """A tenant exists, in this partition."""

    TYPE: ClassVar[str] = "keyforge.tenant.created.v1"

    by: TokenId
    limits: tuple[Limit, ...]
    name: str
    partition: int
    plan: str
    revision: int
    tenant: TenantId


class TenantUpdated(Event, frozen=True, kw_only=True):
    """A tenant's settings are now these, all of them."""

    TYPE: ClassVar[str] = "keyforge.tenant.updated.v1"

    by: TokenId
    limits: tuple[Limit, ...]
    name: str
    plan: str
    revision: int
    status: TenantStatus
    tenant: TenantId


class KeyCreated(Event, frozen=True, kw_only=True):
    """A key was issued. `digest` is the keyed hash of its text (hex); `models` None means every priced model."""

    TYPE: ClassVar[str] = "keyforge.key.created.v1"

    by: TokenId
    digest: str
    expires_at: Moment | None
    key_id: KeyId
    limits: tuple[Limit, ...]
    max_output_tokens: int | None
    models: tuple[str, ...] | None
    name: str
    revision: int
    tenant: TenantId


class KeyUpdated(Event, frozen=True, kw_only=True):
    """A key's policy is now this, all of it."""

    TYPE: ClassVar[str] = "keyforge.key.updated.v1"

    by: TokenId
    expires_at: Moment | None
    key_id: KeyId
    limits: tuple[Limit, ...]
    max_output_tokens: int | None
    models: tuple[str, ...] | None
    name: str
    revision: int
    tenant: TenantId


class KeyRevoked(Event, frozen=True, kw_only=True):
    """A key ended. Nothing is admitted on it behind this position."""

    TYPE: ClassVar[str] = "keyforge.key.revoked.v1"

    by: TokenId
    key_id: KeyId
    reason: str
    revision: int
    tenant: TenantId


class ModelResumed(Event, frozen=True, kw_only=True):
    """An operator lifted the freeze that an overrun put on a model for a tenant."""

    TYPE: ClassVar[str] = "keyforge.model.resumed.v1"

    by: TokenId
    model: ModelName
    provider: ProviderId
    tenant: TenantId


# --- adm: what the owner decided --------------------------------------------------------------------------------------


class RequestAdmitted(Event, frozen=True, kw_only=True):
    """Money was set aside for one request. Written by budget before any byte goes to a provider."""

    TYPE: ClassVar[str] = "keyforge.request.admitted.v1"
    WRITER: ClassVar[Writer] = "adm"

    body_commitment: str
    deadline: Moment
    debits: tuple[Debit, ...]
    edge: EdgeId
    endpoint: Endpoint
    epoch: int
    idempotency_hash: str | None
    key_id: KeyId
    model: ModelName
    policy_revision: int
    price_id: PriceId
    prices: UnitPrices
    provider: ProviderId
    request_id: RequestId
    reserved: Amounts
    tenant: TenantId


class RequestAbandoned(Event, frozen=True, kw_only=True):
    """The deadline passed without a word from the edge: the reservation counts as spent."""

    TYPE: ClassVar[str] = "keyforge.request.abandoned.v1"
    WRITER: ClassVar[Writer] = "adm"

    key_id: KeyId
    request_id: RequestId
    tenant: TenantId


class RequestOverran(Event, frozen=True, kw_only=True):
    """A provider billed more than was reserved: charged, and the model frozen for the tenant."""

    TYPE: ClassVar[str] = "keyforge.request.overran.v1"
    WRITER: ClassVar[Writer] = "adm"

    key_id: KeyId
    model: ModelName
    provider: ProviderId
    request_id: RequestId
    reserved: Amounts
    settled: Amounts
    tenant: TenantId


# --- use: what an edge saw --------------------------------------------------------------------------------------------


class Attempt(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One physical call of a provider. `status` 0: no answer. `sent`: whether any byte of the request left."""

    credential: CredentialId
    duration_ms: int
    error: str | None = None
    sent: bool
    status: int


class RequestCompleted(Event, frozen=True, kw_only=True):
    """A request ended, and this is what it used. It is the settlement: the fold computes cost = usage x pinned prices.

    `usage` None: not known, so the reservation counts as spent. `usage_source` "none" with a zero usage: the provider
    refused and billed nothing.
    """

    TYPE: ClassVar[str] = "keyforge.request.completed.v1"
    WRITER: ClassVar[Writer] = "use"

    attempts: tuple[Attempt, ...]
    duration_ms: int
    edge: EdgeId
    first_byte_ms: int
    key_id: KeyId
    outcome: str
    reported_cost_nusd: int | None
    request_id: RequestId
    response_commitment: str
    status: int
    tenant: TenantId
    usage: Usage | None
    usage_source: UsageSource


class RequestCancelled(Event, frozen=True, kw_only=True):
    """The edge gave a request up before any byte went to a provider: it costs nothing, whenever it is admitted."""

    TYPE: ClassVar[str] = "keyforge.request.cancelled.v1"
    WRITER: ClassVar[Writer] = "use"

    deadline: Moment
    edge: EdgeId
    key_id: KeyId
    reason: str
    request_id: RequestId
    tenant: TenantId


class RequestRefused(Event, frozen=True, kw_only=True):
    """Requests of one key were refused for one reason: `count` since the last such event, `request_id` the first."""

    TYPE: ClassVar[str] = "keyforge.request.refused.v1"
    WRITER: ClassVar[Writer] = "use"

    count: int
    edge: EdgeId
    key_id: KeyId
    reason: str
    request_id: RequestId
    tenant: TenantId


# --- platform: what belongs to no tenant ------------------------------------------------------------------------------


class ProviderRegistered(Event, frozen=True, kw_only=True):
    """A provider can be called, at this address; replaces an earlier registration of the same id."""

    TYPE: ClassVar[str] = "keyforge.provider.registered.v1"
    WRITER: ClassVar[Writer] = "platform"

    allow_insecure: bool
    base_url: str
    by: TokenId
    kind: str
    provider: ProviderId
    revision: int


class CredentialAdded(Event, frozen=True, kw_only=True):
    """A credential was sealed to the edges' public key. `sealed` (base64) can be opened by edges alone."""

    TYPE: ClassVar[str] = "keyforge.credential.added.v1"
    WRITER: ClassVar[Writer] = "platform"

    base_url: str
    by: TokenId
    credential: CredentialId
    provider: ProviderId
    quota_group: str
    sealed: str
    sealed_to: str
    version: int
    weight: int


class CredentialRevoked(Event, frozen=True, kw_only=True):
    """A credential ended: no edge uses it for another call."""

    TYPE: ClassVar[str] = "keyforge.credential.revoked.v1"
    WRITER: ClassVar[Writer] = "platform"

    by: TokenId
    credential: CredentialId
    provider: ProviderId
    reason: str


class PriceSet(Event, frozen=True, kw_only=True):
    """A model of a provider has this price from here on; it also makes the model known."""

    TYPE: ClassVar[str] = "keyforge.price.set.v1"
    WRITER: ClassVar[Writer] = "platform"

    by: TokenId
    context_tokens: int | None
    max_output_tokens: int | None
    model: ModelName
    price_id: PriceId
    prices: UnitPrices
    provider: ProviderId
    source: str


class TenantPlaced(Event, frozen=True, kw_only=True):
    """A tenant's id was claimed for a partition: whoever makes the tenant makes it there, or it is never made."""

    TYPE: ClassVar[str] = "keyforge.tenant.placed.v1"
    WRITER: ClassVar[Writer] = "platform"

    by: TokenId
    partition: int
    tenant: TenantId


class OperatorCreated(Event, frozen=True, kw_only=True):
    """A token for the operators' API was issued. `digest` is its keyed hash (hex)."""

    TYPE: ClassVar[str] = "keyforge.operator.created.v1"
    WRITER: ClassVar[Writer] = "platform"

    by: TokenId
    digest: str
    role: Role
    token_id: TokenId


class OperatorRevoked(Event, frozen=True, kw_only=True):
    """A token for the operators' API ended: no service takes it any more."""

    TYPE: ClassVar[str] = "keyforge.operator.revoked.v1"
    WRITER: ClassVar[Writer] = "platform"

    by: TokenId
    reason: str
    token_id: TokenId


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
