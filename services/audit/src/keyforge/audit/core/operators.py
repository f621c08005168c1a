"""Which records the events of operators, owners and the platform become; a rule returns why it rejects an event."""

from typing import Final

from keyforge.audit.core.fold_state import FoldState
from keyforge.chain.names import KEY_ID
from keyforge.chain.seal import PLATFORM_CHAIN, key_chain, partition_chain, tenant_chain
from keyforge.contracts import events
from keyforge.contracts.frame import Recorded
from keyforge.contracts.ids import is_slug

REPEATED: Final = "repeated"
"""What a rule returns for a second copy of an event: no record, and nothing to report."""


def tenant_created(state: FoldState, recorded: Recorded, event: events.TenantCreated) -> str | None:
    """Create the tenant's chain."""
    if state.seen_before(recorded):
        return REPEATED
    if event.tenant in state.tenants:
        return "the tenant exists already"
    if not is_slug(event.tenant):
        return "not a valid tenant id"
    chain = state.tenants[event.tenant] = state.begin_chain(tenant_chain(event.tenant), tenant=event.tenant)
    state.record(chain, recorded)
    return None


def of_tenant(state: FoldState, recorded: Recorded, event: events.TenantUpdated | events.ModelResumed) -> str | None:
    """Record an event on the tenant's chain."""
    if state.seen_before(recorded):
        return REPEATED
    chain = state.tenants.get(event.tenant)
    if chain is None:
        return "unknown tenant"
    state.record(chain, recorded)
    return None


def key_created(state: FoldState, recorded: Recorded, event: events.KeyCreated) -> str | None:
    """Create the key's chain."""
    if state.seen_before(recorded):
        return REPEATED
    name = (event.tenant, event.key_id)
    if event.tenant not in state.tenants:
        return "unknown tenant"
    if name in state.keys:
        return "the key exists already"
    if KEY_ID.fullmatch(event.key_id) is None:
        return "not a valid key id"
    state.keys[name] = state.begin_chain(key_chain(*name), tenant=event.tenant, key_id=event.key_id)
    _record_on_both(state, recorded, name)
    return None


def of_key(state: FoldState, recorded: Recorded, event: events.KeyUpdated | events.KeyRevoked) -> str | None:
    """Record an event on the key's chain and its tenant's."""
    if state.seen_before(recorded):
        return REPEATED
    name = (event.tenant, event.key_id)
    if name not in state.keys:
        return "unknown key"
    _record_on_both(state, recorded, name)
    return None


def fenced(state: FoldState, recorded: Recorded, _event: events.PartitionFenced) -> str | None:
    """Record that an owner took the partition."""
    if state.seen_before(recorded):
        return REPEATED
    name = partition_chain(state.partition)
    state.record(state.chains.get(name) or state.begin_chain(name), recorded)
    return None


def of_platform(state: FoldState, recorded: Recorded, _event: events.Event) -> str | None:
    """Record an event on the platform's chain."""
    if state.seen_before(recorded):
        return REPEATED
    state.record(state.chains.get(PLATFORM_CHAIN) or state.begin_chain(PLATFORM_CHAIN), recorded)
    return None


def _record_on_both(state: FoldState, recorded: Recorded, name: tuple[str, str]) -> None:
    """Record an event on the key's chain and on its tenant's, which has all that the tenant's operators did."""
    state.record(state.keys[name], recorded)
    state.record(state.tenants[name[0]], recorded)
