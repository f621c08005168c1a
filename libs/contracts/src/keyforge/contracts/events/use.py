"""The events that an edge writes: how admitted requests ended, and which were refused."""

from typing import ClassVar

import msgspec

from keyforge.contracts.canonical import SAFE_INTEGER_MAX
from keyforge.contracts.events.base import Event, Moment, Writer
from keyforge.contracts.ids import CredentialId, EdgeId, KeyId, RequestId, TenantId
from keyforge.contracts.usage import Usage
from keyforge.contracts.words import Word


class Attempt(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One physical call of a provider. `status` 0: no answer. `sent`: whether any byte of the request left."""

    credential: CredentialId
    duration_ms: int
    error: str | None = None
    sent: bool
    status: int


class RequestCompleted(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A request ended, and this is what it used. It is the settlement: the fold computes cost = usage x pinned prices.

    `usage` None: not known, so the reservation counts as spent. `usage_source` "none" with a zero usage: the provider
    refused and billed nothing. `may_be_repeated`: the agent was answered that the same request may succeed later, and
    nothing was billed for this one, so its `Idempotency-Key` is free again; written only where it is true.
    """

    TYPE: ClassVar[str] = "keyforge.request.completed.v1"
    WRITER: ClassVar[Writer] = "use"

    attempts: tuple[Attempt, ...]
    duration_ms: int
    edge: EdgeId
    first_byte_ms: int
    key_id: KeyId
    may_be_repeated: bool = False
    outcome: str
    reported_cost_nusd: int | None
    request_id: RequestId
    response_commitment: str
    secret_version: int
    status: int
    tenant: TenantId
    usage: Usage | None
    usage_source: Word

    def may_hold_long_integer(self) -> bool:
        """See `Event.may_hold_long_integer`. An edge reports no negative number."""
        usage, cost_nusd = self.usage, self.reported_cost_nusd
        if usage is not None and usage.largest > SAFE_INTEGER_MAX:
            return True
        return cost_nusd is not None and cost_nusd > SAFE_INTEGER_MAX

    def containers(self) -> int:
        """See `Event.containers`: attempts, usage."""
        return 3 + len(self.attempts) + (self.usage is not None)


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
