"""The operators' API, route by route. Handlers translate; what is allowed is decided in `core`."""

from typing import Annotated, Any, Final, TypeVar

from fastapi import APIRouter, Depends, Query

from keyforge.contracts.errors import Problem
from keyforge.contracts.ids import ModelName, ProviderId
from keyforge.keys.feed import PriceFeed
from keyforge.keys.inbound import answers, bodies
from keyforge.keys.platform_facts import Platform
from keyforge.keys.tenancy import Tenancy
from keyforge.runtime.http import ProblemError, fail, operator_of
from keyforge.runtime.tokens import Operator, TokenVerifier

PAGE_MAX: Final = 500
PAGE_DEFAULT: Final = 100

After = Annotated[str, Query(max_length=300, description="The `next` of the page before.")]
Limit = Annotated[int, Query(ge=1, le=PAGE_MAX)]

_ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": answers.ErrorAnswer} for status in (400, 401, 403, 404, 409, 413, 429, 500, 503)
}

T = TypeVar("T")


def granted(outcome: T | Problem | None) -> T:
    """Return what a command or a look-up gave; end the handler with the problem if it gave one."""
    if isinstance(outcome, Problem):
        raise ProblemError(outcome)
    if outcome is None:
        raise fail("not_found")
    return outcome


def tenant_routes(tenancy: Tenancy, verifier: TokenVerifier) -> APIRouter:
    """Tenants, their keys, and their frozen models."""
    router = APIRouter(prefix="/v1/tenants", tags=["tenants"], responses=_ERRORS)
    reads = Depends(operator_of(verifier))
    writes = Depends(operator_of(verifier, writes=True))

    @router.post("", status_code=201, dependencies=[writes])
    async def create_tenant(body: bodies.TenantBody, by: Operator = writes) -> answers.TenantAnswer:
        """Make a tenant."""
        return answers.tenant(granted(await tenancy.create_tenant(body.ask(), by=by.token_id)))

    @router.get("", dependencies=[reads])
    async def list_tenants(after: After = "", limit: Limit = PAGE_DEFAULT) -> answers.TenantPage:
        """List tenants by id."""
        found = tenancy.tenants(after=after, limit=limit + 1)
        data = [answers.tenant(tenant) for tenant in found[:limit]]
        return answers.TenantPage(data=data, next=data[-1].id if len(found) > limit else None)

    @router.get("/{tenant}", dependencies=[reads])
    async def show_tenant(tenant: str) -> answers.TenantAnswer:
        """Show a tenant."""
        return answers.tenant(granted(tenancy.tenant(tenant)))

    @router.patch("/{tenant}")
    async def update_tenant(tenant: str, body: bodies.TenantPatchBody, by: Operator = writes) -> answers.TenantAnswer:
        """Change a tenant: what is left out stays, null clears."""
        return answers.tenant(granted(await tenancy.update_tenant(tenant, body.ask(), by=by.token_id)))

    @router.post("/{tenant}/keys", status_code=201)
    async def create_key(tenant: str, body: bodies.KeyBody, by: Operator = writes) -> answers.IssuedKeyAnswer:
        """Issue a key. Its text is shown this once."""
        issued = granted(await tenancy.create_key(tenant, body.ask(), by=by.token_id))
        return answers.issued_key(issued.key, issued.text)

    @router.get("/{tenant}/keys", dependencies=[reads])
    async def list_keys(tenant: str, after: After = "", limit: Limit = PAGE_DEFAULT) -> answers.KeyPage:
        """List a tenant's keys as they were created."""
        found = granted(tenancy.keys(tenant, after=after, limit=limit + 1))
        data = [answers.key(key) for key in found[:limit]]
        return answers.KeyPage(data=data, next=data[-1].id if len(found) > limit else None)

    @router.get("/{tenant}/keys/{key}", dependencies=[reads])
    async def show_key(tenant: str, key: str) -> answers.KeyAnswer:
        """Show a key's policy."""
        return answers.key(granted(tenancy.key(tenant, key)))

    @router.patch("/{tenant}/keys/{key}")
    async def update_key(tenant: str, key: str, body: bodies.KeyPatchBody, by: Operator = writes) -> answers.KeyAnswer:
        """Change a key's policy: what is left out stays, null takes a restriction away."""
        return answers.key(granted(await tenancy.update_key(tenant, key, body.ask(), by=by.token_id)))

    @router.post("/{tenant}/keys/{key}/revoke")
    async def revoke_key(
        tenant: str, key: str, body: bodies.RevokeBody | None = None, by: Operator = writes
    ) -> answers.KeyAnswer:
        """End a key. Once this has returned, nothing more is admitted on it. Doing it again changes nothing."""
        reason = body.reason if body else ""
        return answers.key(granted(await tenancy.revoke_key(tenant, key, reason=reason, by=by.token_id)))

    @router.post("/{tenant}/models/resume")
    async def resume_model(tenant: str, body: bodies.ResumeBody, by: Operator = writes) -> answers.ResumedAnswer:
        """Lift the freeze that an overrun put on a model."""
        provider, model = ProviderId(body.provider), ModelName(body.model)
        granted(await tenancy.resume_model(tenant, provider, model, by=by.token_id))
        return answers.ResumedAnswer(tenant=tenant, provider=provider, model=model)

    return router


def platform_routes(platform: Platform, feed: PriceFeed, verifier: TokenVerifier) -> APIRouter:
    """Providers, credentials, prices, operators."""
    router = APIRouter(prefix="/v1", tags=["platform"], responses=_ERRORS)
    reads = Depends(operator_of(verifier))
    writes = Depends(operator_of(verifier, writes=True))

    @router.post("/providers", status_code=201)
    async def register_provider(body: bodies.ProviderBody, by: Operator = writes) -> answers.ProviderAnswer:
        """Register a provider, or give it other settings. Known prices of its models are taken in at once."""
        provider = granted(await platform.register(body.ask(), by=by.token_id))
        await feed.feed(provider)
        return answers.provider(provider)

    @router.get("/providers", dependencies=[reads])
    async def list_providers(after: After = "", limit: Limit = PAGE_DEFAULT) -> answers.ProviderPage:
        """List providers."""
        found = platform.providers(after=after, limit=limit + 1)
        data = [answers.provider(provider) for provider in found[:limit]]
        return answers.ProviderPage(data=data, next=data[-1].id if len(found) > limit else None)

    @router.post("/providers/{provider}/credentials", status_code=201)
    async def add_credential(
        provider: str, body: bodies.CredentialBody, by: Operator = writes
    ) -> answers.CredentialAnswer:
        """Add a credential. It is sealed to the edges: nobody, keys included, can read it back."""
        done = await platform.add_credential(
            provider, body.secret, weight=body.weight, quota_group=body.quota_group, by=by.token_id
        )
        return answers.credential(granted(done))

    @router.get("/providers/{provider}/credentials", dependencies=[reads])
    async def list_credentials(provider: str) -> answers.CredentialPage:
        """List a provider's credentials, without what they hold."""
        found = granted(platform.credentials(provider))
        return answers.CredentialPage(data=[answers.credential(credential) for credential in found])

    @router.put("/prices/{provider}/{model:path}")
    async def put_price(
        provider: str, model: str, body: bodies.PriceBody, by: Operator = writes
    ) -> answers.PriceAnswer:
        """Set what a model costs; this also makes it known. It wins over the price data, for good."""
        return answers.price(granted(await platform.put_price(provider, model, body.ask(), by=by.token_id)))

    @router.get("/prices/{provider}/{model:path}", dependencies=[reads])
    async def show_price(provider: str, model: str) -> answers.PriceAnswer:
        """Show what a model costs."""
        return answers.price(granted(platform.price(provider, model)))

    @router.get("/prices", dependencies=[reads])
    async def list_prices(
        provider: Annotated[str | None, Query(max_length=63)] = None,
        after: After = "",
        limit: Limit = PAGE_DEFAULT,
    ) -> answers.PricePage:
        """List prices by provider and model."""
        every = sorted(platform.prices(provider), key=_name)
        found = [price for price in every if _name(price) > after][: limit + 1]
        data = [answers.price(price) for price in found[:limit]]
        return answers.PricePage(data=data, next=_name(data[-1]) if len(found) > limit else None)

    @router.post("/operators", status_code=201)
    async def create_operator(body: bodies.OperatorBody, by: Operator = writes) -> answers.IssuedTokenAnswer:
        """Issue a further token for this API. Its text is shown this once."""
        issued = granted(await platform.create_operator(body.role, by=by.token_id))
        operator = issued.operator
        return answers.IssuedTokenAnswer(id=operator.token_id, role=operator.role, token=issued.text)

    return router


def _name(price: Any) -> str:
    return f"{price.provider}/{price.model}"
