"""Tenants and their keys over HTTP. Handlers translate; `core` decides."""

from fastapi import APIRouter

from keyforge.contracts.ids import ModelName, ProviderId
from keyforge.keys.application.tenants import Tenants
from keyforge.keys.inbound import render, requests, responses
from keyforge.keys.inbound.handling import PAGE_DEFAULT, After, Guard, Limit, page, unwrap
from keyforge.keys.inbound.handling import router as new_router
from keyforge.runtime.tokens import Operator


def tenant_routes(tenants: Tenants, guard: Guard) -> APIRouter:
    """Tenants, and the models that are frozen for them."""
    router = new_router("/v1/tenants", "tenants")

    @router.post("", status_code=201)
    async def create_tenant(body: requests.TenantRequest, by: Operator = guard.writes) -> responses.TenantResponse:
        """Create a tenant."""
        return render.tenant(unwrap(await tenants.create_tenant(body.to_core(), body.name, by=by.token_id)))

    @router.get("", dependencies=[guard.reads])
    async def list_tenants(after: After = "", limit: Limit = PAGE_DEFAULT) -> responses.TenantsResponse:
        """List tenants by id."""
        found = unwrap(await tenants.tenants(after=after, limit=limit + 1))
        rendered, next_ = page(found, limit, render.tenant, lambda one: one.tenant.tenant)
        return responses.TenantsResponse(tenants=rendered, next=next_)

    @router.get("/{tenant}", dependencies=[guard.reads])
    async def show_tenant(tenant: str) -> responses.TenantResponse:
        """Show a tenant."""
        return render.tenant(unwrap(await tenants.tenant(tenant), "tenant"))

    @router.patch("/{tenant}")
    async def update_tenant(
        tenant: str, body: requests.TenantPatchRequest, by: Operator = guard.writes
    ) -> responses.TenantResponse:
        """Change a tenant: an omitted field stays as it is, null clears."""
        done = await tenants.update_tenant(tenant, body.to_core(), body.new_name, by=by.token_id)
        return render.tenant(unwrap(done))

    @router.post("/{tenant}/models/resume")
    async def resume_model(
        tenant: str, body: requests.ResumeRequest, by: Operator = guard.writes
    ) -> responses.ResumedResponse:
        """Lift the freeze that an overrun put on a model."""
        provider, model = ProviderId(body.provider), ModelName(body.model)
        unwrap(await tenants.resume_model(tenant, provider, model, by=by.token_id))
        return responses.ResumedResponse(tenant=tenant, provider=provider, model=model)

    return router


def key_routes(tenants: Tenants, guard: Guard) -> APIRouter:
    """A tenant's keys."""
    router = new_router("/v1/tenants/{tenant}/keys", "keys")

    @router.post("", status_code=201)
    async def create_key(
        tenant: str, body: requests.KeyRequest, by: Operator = guard.writes
    ) -> responses.IssuedKeyResponse:
        """Issue a key. Its text is returned this once."""
        issued = unwrap(await tenants.create_key(tenant, body.to_core(), body.name, by=by.token_id))
        return render.issued_key(issued.key, issued.text)

    @router.get("", dependencies=[guard.reads])
    async def list_keys(tenant: str, after: After = "", limit: Limit = PAGE_DEFAULT) -> responses.KeysResponse:
        """List a tenant's keys in order of creation."""
        found = unwrap(await tenants.keys(tenant, after=after, limit=limit + 1), "tenant")
        keys, next_ = page(found, limit, render.key, lambda one: one.key.key_id)
        return responses.KeysResponse(keys=keys, next=next_)

    @router.get("/{key}", dependencies=[guard.reads])
    async def show_key(tenant: str, key: str) -> responses.KeyResponse:
        """Show a key's policy."""
        return render.key(unwrap(await tenants.key(tenant, key), "key"))

    @router.patch("/{key}")
    async def update_key(
        tenant: str, key: str, body: requests.KeyPatchRequest, by: Operator = guard.writes
    ) -> responses.KeyResponse:
        """Change a key's policy: an omitted field stays as it is, null removes a restriction."""
        done = await tenants.update_key(tenant, key, body.to_core(), body.new_name, by=by.token_id)
        return render.key(unwrap(done))

    @router.post("/{key}/revoke")
    async def revoke_key(
        tenant: str, key: str, body: requests.RevokeRequest | None = None, by: Operator = guard.writes
    ) -> responses.KeyResponse:
        """Revoke a key. Once this has returned, nothing more is admitted on it. Repeating this changes nothing."""
        reason = body.reason if body else ""
        return render.key(unwrap(await tenants.revoke_key(tenant, key, reason=reason, by=by.token_id)))

    return router
