"""Tenants and their keys over HTTP. Handlers translate; what is allowed is decided in `core`."""

from fastapi import APIRouter

from keyforge.contracts.ids import ModelName, ProviderId
from keyforge.keys.application.tenants import Tenancy
from keyforge.keys.inbound import answers, bodies
from keyforge.keys.inbound.handling import PAGE_DEFAULT, After, Guard, Limit, granted, page
from keyforge.keys.inbound.handling import router as new_router
from keyforge.runtime.tokens import Operator


def tenant_routes(tenancy: Tenancy, guard: Guard) -> APIRouter:
    """Tenants, and the models that are frozen for them."""
    router = new_router("/v1/tenants", "tenants")

    @router.post("", status_code=201)
    async def create_tenant(body: bodies.TenantBody, by: Operator = guard.writes) -> answers.TenantAnswer:
        """Make a tenant."""
        return answers.tenant(granted(await tenancy.create_tenant(body.ask(), by=by.token_id)))

    @router.get("", dependencies=[guard.reads])
    async def list_tenants(after: After = "", limit: Limit = PAGE_DEFAULT) -> answers.TenantPage:
        """List tenants by id."""
        found = tenancy.tenants(after=after, limit=limit + 1)
        data, next_ = page(found, limit, answers.tenant, lambda tenant: tenant.tenant)
        return answers.TenantPage(data=data, next=next_)

    @router.get("/{tenant}", dependencies=[guard.reads])
    async def show_tenant(tenant: str) -> answers.TenantAnswer:
        """Show a tenant."""
        return answers.tenant(granted(tenancy.tenant(tenant)))

    @router.patch("/{tenant}")
    async def update_tenant(
        tenant: str, body: bodies.TenantPatchBody, by: Operator = guard.writes
    ) -> answers.TenantAnswer:
        """Change a tenant: what is left out stays, null clears."""
        return answers.tenant(granted(await tenancy.update_tenant(tenant, body.ask(), by=by.token_id)))

    @router.post("/{tenant}/models/resume")
    async def resume_model(tenant: str, body: bodies.ResumeBody, by: Operator = guard.writes) -> answers.ResumedAnswer:
        """Lift the freeze that an overrun put on a model."""
        provider, model = ProviderId(body.provider), ModelName(body.model)
        granted(await tenancy.resume_model(tenant, provider, model, by=by.token_id))
        return answers.ResumedAnswer(tenant=tenant, provider=provider, model=model)

    return router


def key_routes(tenancy: Tenancy, guard: Guard) -> APIRouter:
    """A tenant's keys."""
    router = new_router("/v1/tenants/{tenant}/keys", "keys")

    @router.post("", status_code=201)
    async def create_key(tenant: str, body: bodies.KeyBody, by: Operator = guard.writes) -> answers.IssuedKeyAnswer:
        """Issue a key. Its text is shown this once."""
        issued = granted(await tenancy.create_key(tenant, body.ask(), by=by.token_id))
        return answers.issued_key(issued.key, issued.text)

    @router.get("", dependencies=[guard.reads])
    async def list_keys(tenant: str, after: After = "", limit: Limit = PAGE_DEFAULT) -> answers.KeyPage:
        """List a tenant's keys as they were created."""
        found = granted(tenancy.keys(tenant, after=after, limit=limit + 1))
        data, next_ = page(found, limit, answers.key, lambda key: key.key_id)
        return answers.KeyPage(data=data, next=next_)

    @router.get("/{key}", dependencies=[guard.reads])
    async def show_key(tenant: str, key: str) -> answers.KeyAnswer:
        """Show a key's policy."""
        return answers.key(granted(tenancy.key(tenant, key)))

    @router.patch("/{key}")
    async def update_key(
        tenant: str, key: str, body: bodies.KeyPatchBody, by: Operator = guard.writes
    ) -> answers.KeyAnswer:
        """Change a key's policy: what is left out stays, null takes a restriction away."""
        return answers.key(granted(await tenancy.update_key(tenant, key, body.ask(), by=by.token_id)))

    @router.post("/{key}/revoke")
    async def revoke_key(
        tenant: str, key: str, body: bodies.RevokeBody | None = None, by: Operator = guard.writes
    ) -> answers.KeyAnswer:
        """End a key. Once this has returned, nothing more is admitted on it. Doing it again changes nothing."""
        reason = body.reason if body else ""
        return answers.key(granted(await tenancy.revoke_key(tenant, key, reason=reason, by=by.token_id)))

    return router
