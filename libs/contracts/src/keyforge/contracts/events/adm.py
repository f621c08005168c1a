"""The events that a partition's owner writes: what it admitted, and what became of requests that nobody ended."""

from typing import ClassVar

from keyforge.contracts.canonical import SAFE_INTEGER_MAX
from keyforge.contracts.events.base import Event, Moment, Writer
from keyforge.contracts.ids import EdgeId, KeyId, ModelName, PriceId, ProviderId, RequestId, TenantId
from keyforge.contracts.limits import Amounts, Debit
from keyforge.contracts.usage import UnitPrices
from keyforge.contracts.words import Word


class RequestAdmitted(Event, frozen=True, kw_only=True):
    """Money was set aside for one request. Written by budget before any byte goes to a provider.

    `body_commitment` and `idempotency_hash` were made with the tenant's secret of `secret_version`.
    """

    TYPE: ClassVar[str] = "keyforge.request.admitted.v1"
    WRITER: ClassVar[Writer] = "adm"

    body_commitment: str
    deadline: Moment
    debits: tuple[Debit, ...]
    edge: EdgeId
    endpoint: Word
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
    secret_version: int
    tenant: TenantId

    def may_hold_long_integer(self) -> bool:
        """See `Event.may_hold_long_integer`. No debit is more than what was reserved, or than one request."""
        reserved = self.reserved
        return max(reserved.nusd, reserved.tokens, self.prices.highest_nusd) > SAFE_INTEGER_MAX

    def containers(self) -> int:
        """See `Event.containers`: debits, prices, what is reserved."""
        return 5 + len(self.debits)


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
