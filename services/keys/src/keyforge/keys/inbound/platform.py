"""Providers, credentials, prices and operators over HTTP. Handlers translate; what is allowed is decided in `core`."""

from typing import Annotated

from fastapi import APIRouter, Query

from keyforge.keys.application.platform import Platform
from keyforge.keys.application.price_feed import PriceFeed
from keyforge.keys.core.facts import Price
from keyforge.keys.inbound import answers, bodies
from keyforge.keys.inbound.handling import PAGE_DEFAULT, After, Guard, Limit, granted, page
from keyforge.keys.inbound.handling import router as new_router
from keyforge.runtime.tokens import Operator


def provider_routes(platform: Platform, feed: PriceFeed, guard: Guard) -> APIRouter:
    """Providers and their credentials."""
    router = new_router("/v1/providers", "providers")

    @router.post("", status_code=201)
    async def register_provider(body: bodies.ProviderBody, by: Operator = guard.writes) -> answers.ProviderAnswer:
        """Register a provider, or give it other settings. Known prices of its models are taken in at once."""
        provider = granted(await platform.register(body.ask(), by=by.token_id))
        await feed.feed(provider)
        return answers.provider(provider)

    @router.get("", dependencies=[guard.reads])
    async def list_providers(after: After = "", limit: Limit = PAGE_DEFAULT) -> answers.ProviderPage:
        """List providers."""
        found = platform.providers(after=after, limit=limit + 1)
        data, next_ = page(found, limit, answers.provider, lambda provider: provider.provider)
        return answers.ProviderPage(data=data, next=next_)

    @router.post("/{provider}/credentials", status_code=201)
    async def add_credential(
        provider: str, body: bodies.CredentialBody, by: Operator = guard.writes
    ) -> answers.CredentialAnswer:
        """Add a credential. It is sealed to the edges: nobody, keys included, can read it back."""
        done = await platform.add_credential(
            provider, body.secret, weight=body.weight, quota_group=body.quota_group, by=by.token_id
        )
        return answers.credential(granted(done))

    @router.get("/{provider}/credentials", dependencies=[guard.reads])
    async def list_credentials(provider: str, after: After = "", limit: Limit = PAGE_DEFAULT) -> answers.CredentialPage:
        """List a provider's credentials as they were added, without what they hold."""
        found = granted(platform.credentials(provider, after=after, limit=limit + 1))
        data, next_ = page(found, limit, answers.credential, lambda credential: credential.credential)
        return answers.CredentialPage(data=data, next=next_)

    @router.post("/{provider}/credentials/{credential}/revoke")
    async def revoke_credential(
        provider: str, credential: str, body: bodies.RevokeBody | None = None, by: Operator = guard.writes
    ) -> answers.CredentialAnswer:
        """End a credential: edges use it for no further call. Doing it again changes nothing."""
        reason = body.reason if body else ""
        done = await platform.revoke_credential(provider, credential, reason=reason, by=by.token_id)
        return answers.credential(granted(done))

    return router


def price_routes(platform: Platform, guard: Guard) -> APIRouter:
    """What models cost."""
    router = new_router("/v1/prices", "prices")

    @router.put("/{provider}/{model:path}")
    async def put_price(
        provider: str, model: str, body: bodies.PriceBody, by: Operator = guard.writes
    ) -> answers.PriceAnswer:
        """Set what a model costs; this also makes it known. It wins over the price data, for good."""
        return answers.price(granted(await platform.put_price(provider, model, body.ask(), by=by.token_id)))

    @router.get("/{provider}/{model:path}", dependencies=[guard.reads])
    async def show_price(provider: str, model: str) -> answers.PriceAnswer:
        """Show what a model costs."""
        return answers.price(granted(platform.price(provider, model)))

    @router.get("", dependencies=[guard.reads])
    async def list_prices(
        provider: Annotated[str | None, Query(max_length=63)] = None,
        after: After = "",
        limit: Limit = PAGE_DEFAULT,
    ) -> answers.PricePage:
        """List prices by provider and model."""
        every = sorted(platform.prices(provider), key=_name)
        found = [price for price in every if _name(price) > after][: limit + 1]
        data, next_ = page(found, limit, answers.price, _name)
        return answers.PricePage(data=data, next=next_)

    return router


def operator_routes(platform: Platform, guard: Guard) -> APIRouter:
    """The tokens of this API."""
    router = new_router("/v1/operators", "operators")

    @router.post("", status_code=201)
    async def create_operator(body: bodies.OperatorBody, by: Operator = guard.writes) -> answers.IssuedTokenAnswer:
        """Issue a further token for this API. Its text is shown this once."""
        issued = granted(await platform.create_operator(body.role, by=by.token_id))
        return answers.issued_token(issued.operator, issued.text)

    @router.get("", dependencies=[guard.reads])
    async def list_operators(after: After = "", limit: Limit = PAGE_DEFAULT) -> answers.OperatorPage:
        """List the tokens of this API by id, without their text."""
        every = sorted(platform.operators(), key=lambda operator: operator.token_id)
        found = [operator for operator in every if operator.token_id > after][: limit + 1]
        data, next_ = page(found, limit, answers.operator, lambda operator: operator.token_id)
        return answers.OperatorPage(data=data, next=next_)

    @router.post("/{operator}/revoke")
    async def revoke_operator(
        operator: str, body: bodies.RevokeBody | None = None, by: Operator = guard.writes
    ) -> answers.OperatorAnswer:
        """End a token of this API, one's own too, but not the last platform admin's. Doing it again changes nothing."""
        reason = body.reason if body else ""
        return answers.operator(granted(await platform.revoke_operator(operator, reason=reason, by=by.token_id)))

    return router


def _name(price: Price) -> str:
    return f"{price.provider}/{price.model}"
