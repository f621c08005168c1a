"""Decisions about tenants. A name comes in encrypted; whether it is another one is for who can open it to say."""

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import UNSET, UnsetType

from keyforge.contracts.errors import Problem, not_found, problem
from keyforge.contracts.events import ModelResumed, TenantCreated, TenantPlaced, TenantStatus, TenantUpdated
from keyforge.contracts.ids import ModelName, ProviderId, TenantId, TokenId
from keyforge.contracts.limits import Limit
from keyforge.contracts.personal_fields import EncryptedField
from keyforge.keys.core.facts import Placement, Tenant
from keyforge.keys.core.limits import NewLimit, limits_of
from keyforge.keys.core.plans import DEFAULT, PLANS


class NewTenant(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant as `POST /v1/tenants` requests it, without its name."""

    tenant: TenantId
    plan: str | None = None
    limits: Sequence[NewLimit] = ()


class TenantPatch(msgspec.Struct, frozen=True, kw_only=True):
    """A change as `PATCH` requests it, without a name: UNSET keeps a field; None sets the default plan or no limits."""

    plan: str | UnsetType | None = UNSET
    status: TenantStatus | UnsetType = UNSET
    limits: Sequence[NewLimit] | UnsetType | None = UNSET


def place(
    existing: Placement | None, tenant: TenantId, *, loads: Mapping[int, int], by: TokenId
) -> TenantPlaced | None:
    """Claim a tenant's id for the partition with the least load; None if it is claimed.

    A claim without a tenant is one whose claimant died: the next to request the id completes it.
    """
    if existing is not None:
        return None
    return TenantPlaced(tenant=tenant, partition=min(loads, key=lambda partition: loads[partition]), by=by)


class Settings(msgspec.Struct, frozen=True):
    """What a new tenant begins with."""

    plan: str
    limits: tuple[Limit, ...]


def settings(existing: Tenant | None, new: NewTenant) -> Settings | Problem:
    """Return what a tenant would be created with, or why it cannot be created."""
    if existing is not None:
        return problem("already_exists", param="id")
    plan = new.plan or DEFAULT
    if plan not in PLANS:
        return _unknown_plan()
    limits = limits_of(new.limits)
    return limits if isinstance(limits, Problem) else Settings(plan, limits)


def create(
    existing: Tenant | None, new: NewTenant, name: EncryptedField, *, partition: int, by: TokenId
) -> TenantCreated | Problem:
    """Create a tenant in a partition."""
    begun = settings(existing, new)
    if isinstance(begun, Problem):
        return begun
    return TenantCreated(
        tenant=new.tenant,
        name=name.text,
        plan=begun.plan,
        partition=partition,
        limits=begun.limits,
        revision=1,
        secret_version=name.secret_version,
        by=by,
    )


def update(
    tenant: Tenant | None, patch: TenantPatch, *, name: EncryptedField | None, keys_live: int, by: TokenId
) -> TenantUpdated | Problem | None:
    """Change a tenant; None if nothing would change. A plan that its keys do not fit is refused as a whole.

    `name` None: it stays as it is, ciphertext and version. A name is never the same text twice, so any other is new.
    """
    if tenant is None:
        return not_found("tenant")
    limits = tenant.limits if patch.limits is UNSET else limits_of(patch.limits or ())
    if isinstance(limits, Problem):
        return limits
    plan = tenant.plan if patch.plan is UNSET else patch.plan or DEFAULT
    if plan not in PLANS:
        return _unknown_plan()
    if plan != tenant.plan and keys_live > PLANS[plan].keys_max:
        return problem(
            "plan_exceeded",
            f"`plan` {plan} allows {PLANS[plan].keys_max} active keys, and the tenant has {keys_live}.",
            param="plan",
        )
    name = name or tenant.name
    status = tenant.status if patch.status is UNSET else patch.status
    if (name, plan, status, limits) == (tenant.name, tenant.plan, tenant.status, tenant.limits):
        return None
    return TenantUpdated(
        tenant=tenant.tenant,
        name=name.text,
        plan=plan,
        status=status,
        limits=limits,
        revision=tenant.version + 1,
        secret_version=name.secret_version,
        by=by,
    )


def resume_model(
    tenant: Tenant | None, provider: ProviderId, model: ModelName, *, by: TokenId
) -> ModelResumed | Problem:
    """Lift the freeze that an overrun put on a model. Only budget knows of freezes: lifting none has no effect."""
    if tenant is None:
        return not_found("tenant")
    return ModelResumed(tenant=tenant.tenant, provider=provider, model=model, by=by)


def _unknown_plan() -> Problem:
    return problem("request_invalid", f"`plan` must be one of: {', '.join(sorted(PLANS))}.", param="plan")
