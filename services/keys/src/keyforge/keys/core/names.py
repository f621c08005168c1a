"""How aggregates and indexes of facts are named.

An aggregate's id begins with its kind, as in `tenant:acme`, so that no two kinds can share one; an event's id is that
and the version, `tenant:acme.3`, in the log's envelope as well. An index is named for what it lists.
"""

from typing import Final

from keyforge.contracts.events import Role

TENANTS: Final = "tenants"
"""The index of tenants."""
PROVIDERS: Final = "providers"
"""The index of providers."""


def placements_in(partition: int) -> str:
    """Return the index of what was placed in a partition."""
    return f"placements/{partition}"


def keys_of(tenant: str) -> str:
    """Return the index of a tenant's keys."""
    return f"keys/{tenant}"


def resumptions_of(tenant: str) -> str:
    """Return the index of the models that were resumed for a tenant."""
    return f"resumptions/{tenant}"


def credentials_of(provider: str) -> str:
    """Return the index of a provider's credentials."""
    return f"credentials/{provider}"


def operators_of(role: Role) -> str:
    """Return the index of operators' tokens of a role."""
    return f"operators/{role}"


def prices_of(provider: str) -> str:
    """Return the index of a provider's prices."""
    return f"prices/{provider}"


def tenant_id(tenant: str) -> str:
    """Return the aggregate id of a tenant."""
    return f"tenant:{tenant}"


def placement_id(tenant: str) -> str:
    """Return the aggregate id of the claim of a tenant's id."""
    return f"placement:{tenant}"


def key_id(key: str) -> str:
    """Return the aggregate id of a key."""
    return f"key:{key}"


def resumption_id(tenant: str, provider: str, model: str) -> str:
    """Return the aggregate id of the freezes of a model that were lifted for a tenant."""
    return f"resumption:{tenant}/{provider}/{model}"


def provider_id(provider: str) -> str:
    """Return the aggregate id of a provider."""
    return f"provider:{provider}"


def credential_id(credential: str) -> str:
    """Return the aggregate id of a credential."""
    return f"credential:{credential}"


def price_id(provider: str, model: str) -> str:
    """Return the aggregate id of a model's price."""
    return f"price:{provider}/{model}"


def operator_id(token: str) -> str:
    """Return the aggregate id of an operator's token."""
    return f"operator:{token}"
