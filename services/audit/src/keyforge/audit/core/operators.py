"""Which records the acts of operators, owners and the platform become; a rule returns why it believes none."""

from typing import Final

from keyforge.audit.core.fold_state import KEY_ID, Book
from keyforge.chain.seal import PLATFORM_CHAIN, key_chain, partition_chain, tenant_chain
from keyforge.contracts import events
from keyforge.contracts.frame import Recorded
from keyforge.contracts.ids import is_slug

REPEATED: Final = "repeated"
"""What a rule returns for an event that the log already told: no record, and no news either."""


def tenant_created(book: Book, recorded: Recorded, event: events.TenantCreated) -> str | None:
    """Begin the tenant's chain."""
    if book.again(recorded):
        return REPEATED
    if event.tenant in book.tenants:
        return "the tenant exists"
    if not is_slug(event.tenant):
        return "not a tenant's name"
    chain = book.tenants[event.tenant] = book.begin(tenant_chain(event.tenant), tenant=event.tenant)
    book.record(chain, recorded)
    return None


def of_tenant(book: Book, recorded: Recorded, event: events.TenantUpdated | events.ModelResumed) -> str | None:
    """Record what was done to a tenant."""
    if book.again(recorded):
        return REPEATED
    chain = book.tenants.get(event.tenant)
    if chain is None:
        return "unknown tenant"
    book.record(chain, recorded)
    return None


def key_created(book: Book, recorded: Recorded, event: events.KeyCreated) -> str | None:
    """Begin the key's chain."""
    if book.again(recorded):
        return REPEATED
    name = (event.tenant, event.key_id)
    if event.tenant not in book.tenants:
        return "unknown tenant"
    if name in book.keys:
        return "the key exists"
    if KEY_ID.fullmatch(event.key_id) is None:
        return "not a key's id"
    book.keys[name] = book.begin(key_chain(*name), tenant=event.tenant, key_id=event.key_id)
    _record_twice(book, recorded, name)
    return None


def of_key(book: Book, recorded: Recorded, event: events.KeyUpdated | events.KeyRevoked) -> str | None:
    """Record what was done to a key."""
    if book.again(recorded):
        return REPEATED
    name = (event.tenant, event.key_id)
    if name not in book.keys:
        return "unknown key"
    _record_twice(book, recorded, name)
    return None


def fenced(book: Book, recorded: Recorded, _event: events.PartitionFenced) -> str | None:
    """Record that an owner took the partition."""
    if book.again(recorded):
        return REPEATED
    name = partition_chain(book.partition)
    book.record(book.chains.get(name) or book.begin(name), recorded)
    return None


def of_platform(book: Book, recorded: Recorded, _event: events.Event) -> str | None:
    """Record a fact of the platform."""
    if book.again(recorded):
        return REPEATED
    book.record(book.chains.get(PLATFORM_CHAIN) or book.begin(PLATFORM_CHAIN), recorded)
    return None


def _record_twice(book: Book, recorded: Recorded, name: tuple[str, str]) -> None:
    """What an operator does to a key belongs to the key's story, and to that of the tenant's operators."""
    book.record(book.keys[name], recorded)
    book.record(book.tenants[name[0]], recorded)
