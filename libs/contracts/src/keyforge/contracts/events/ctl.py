"""The events on the control clock: what changes what may be admitted. Written by keys; fences by owners.

A name and a reason are encrypted under the tenant's secret of `secret_version`; one that an update does not change is
carried over as it is, with its version.
"""

from typing import ClassVar

from keyforge.contracts.events.base import Event, Moment
from keyforge.contracts.ids import KeyId, ModelName, OwnerId, ProviderId, TenantId, TokenId
from keyforge.contracts.limits import Limit
from keyforge.contracts.personal_fields import PersonalField
from keyforge.contracts.words import Word


class PartitionFenced(Event, frozen=True, kw_only=True):
    """An owner took the partition, or made sure of what its last append came to. Ends every earlier epoch."""

    TYPE: ClassVar[str] = "keyforge.partition.fenced.v1"

    epoch: int
    owner: OwnerId
    partition: int


class TenantCreated(Event, frozen=True, kw_only=True):
    """A tenant exists, in this partition. Its secret, of which `secret_version` is in force, was made before."""

    TYPE: ClassVar[str] = "keyforge.tenant.created.v1"

    by: TokenId
    limits: tuple[Limit, ...]
    name: PersonalField
    partition: int
    plan: str
    revision: int
    secret_version: int
    tenant: TenantId


class TenantUpdated(Event, frozen=True, kw_only=True):
    """A tenant's settings are now these, all of them."""

    TYPE: ClassVar[str] = "keyforge.tenant.updated.v1"

    by: TokenId
    limits: tuple[Limit, ...]
    name: PersonalField
    plan: str
    revision: int
    secret_version: int
    status: Word
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
    name: PersonalField
    revision: int
    secret_version: int
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
    name: PersonalField
    revision: int
    secret_version: int
    tenant: TenantId


class KeyRevoked(Event, frozen=True, kw_only=True):
    """A key ended. Nothing is admitted on it after this position. `reason` and `secret_version` None: none was given,
    or it could not be encrypted: no revocation waits for that."""

    TYPE: ClassVar[str] = "keyforge.key.revoked.v1"

    by: TokenId
    key_id: KeyId
    reason: PersonalField | None
    revision: int
    secret_version: int | None
    tenant: TenantId


class ModelResumed(Event, frozen=True, kw_only=True):
    """An operator lifted the freeze that an overrun put on a model for a tenant."""

    TYPE: ClassVar[str] = "keyforge.model.resumed.v1"

    by: TokenId
    model: ModelName
    provider: ProviderId
    tenant: TenantId
