"""The events of the log: flat, frozen, past tense, complete. A published version never changes; its golden file stays.

Fields stand in the order of their names, and so do those of every struct inside: written in that order an event is in
canonical JSON (`frame`), and the bytes in the log are those that its record hashes.

An event's time is in its envelope (`frame.Recorded.at`), its position in the log is given by the log.
Who may write what: `ctl` keys and owners (fences), `adm` the owner, `use` edges, platform keys.
"""

from typing import Final

from keyforge.contracts.events.adm import RequestAbandoned, RequestAdmitted, RequestOverran
from keyforge.contracts.events.base import Endpoint, Event, KeyStatus, Moment, Role, TenantStatus, UsageSource, Writer
from keyforge.contracts.events.ctl import (
    KeyCreated,
    KeyRevoked,
    KeyUpdated,
    ModelResumed,
    PartitionFenced,
    TenantCreated,
    TenantUpdated,
)
from keyforge.contracts.events.platform import (
    CredentialAdded,
    CredentialRevoked,
    OperatorCreated,
    OperatorRevoked,
    PriceSet,
    ProviderRegistered,
    TenantPlaced,
)
from keyforge.contracts.events.use import Attempt, RequestCancelled, RequestCompleted, RequestRefused

__all__ = [
    "EVENTS",
    "Attempt",
    "CredentialAdded",
    "CredentialRevoked",
    "Endpoint",
    "Event",
    "KeyCreated",
    "KeyRevoked",
    "KeyStatus",
    "KeyUpdated",
    "ModelResumed",
    "Moment",
    "OperatorCreated",
    "OperatorRevoked",
    "PartitionFenced",
    "PriceSet",
    "ProviderRegistered",
    "RequestAbandoned",
    "RequestAdmitted",
    "RequestCancelled",
    "RequestCompleted",
    "RequestOverran",
    "RequestRefused",
    "Role",
    "TenantCreated",
    "TenantPlaced",
    "TenantStatus",
    "TenantUpdated",
    "UsageSource",
    "Writer",
]

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
