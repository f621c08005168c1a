"""Providers, credentials, prices and operators' tokens over HTTP. Handlers translate; `core` decides."""

from typing import Annotated

from fastapi import APIRouter, Query

from keyforge.keys.application.platform import Platform
from keyforge.keys.application.price_feed import PriceFeed
from keyforge.keys.core.facts import Price
from keyforge.keys.inbound import render, requests, responses
from keyforge.keys.inbound.handling import PAGE_DEFAULT, After, Guard, Limit, page, unwrap
from keyforge.keys.inbound.handling import router as new_router
from keyforge.runtime.tokens import Operator


def provider_routes(platform: Platform, feed: PriceFeed, guard: Guard) -> APIRouter:
    """Providers and their credentials."""
    router = new_router("/v1/providers", "providers")

    @router.post("", status_code=201)
    async def register_provider(
        body: requests.ProviderRequest, by: Operator = guard.writes
    ) -> responses.ProviderResponse:
        """Register a provider, or change its settings. Prices of its models that the price data has are set at once."""
        if body.price_feed is not None and (wrong := await feed.unknown(body.price_feed)):
            unwrap(wrong)
        provider = unwrap(await platform.register(body.to_core(), by=by.token_id))
        await feed.feed(provider)
        return render.provider(provider)

    @router.get("", dependencies=[guard.reads])
    async def list_providers(after: After = "", limit: Limit = PAGE_DEFAULT) -> responses.ProvidersResponse:
        """List providers."""
        found = platform.providers(after=after, limit=limit + 1)
        providers, next_ = page(found, limit, render.provider, lambda provider: provider.provider)
        return responses.ProvidersResponse(providers=providers, next=next_)

    @router.post("/{provider}/credentials", status_code=201)
    async def add_credential(
        provider: str, body: requests.CredentialRequest, by: Operator = guard.writes
    ) -> responses.CredentialResponse:
        """Add a credential. It is encrypted to the edges' public key: this service cannot read it back."""
        done = await platform.add_credential(
            provider, body.secret, weight=body.weight, quota_group=body.quota_group, by=by.token_id
        )
        return render.credential(unwrap(done))

    @router.get("/{provider}/credentials", dependencies=[guard.reads])
    async def list_credentials(
        provider: str, after: After = "", limit: Limit = PAGE_DEFAULT
    ) -> responses.CredentialsResponse:
        """List a provider's credentials in order of addition, without their secrets."""
        found = unwrap(platform.credentials(provider, after=after, limit=limit + 1), "provider")
        credentials, next_ = page(found, limit, render.credential, lambda credential: credential.credential)
        return responses.CredentialsResponse(credentials=credentials, next=next_)

    @router.post("/{provider}/credentials/{credential}/revoke")
    async def revoke_credential(
        provider: str, credential: str, body: requests.RevokeRequest | None = None, by: Operator = guard.writes
    ) -> responses.CredentialResponse:
        """Revoke a credential: edges make no further call with it. Repeating this changes nothing."""
        reason = body.reason if body else ""
        done = await platform.revoke_credential(provider, credential, reason=reason, by=by.token_id)
        return render.credential(unwrap(done))

    return router


def price_routes(platform: Platform, guard: Guard) -> APIRouter:
    """What models cost."""
    router = new_router("/v1/prices", "prices")

    @router.put("/{provider}/{model:path}")
    async def put_price(
        provider: str, model: str, body: requests.PriceRequest, by: Operator = guard.writes
    ) -> responses.PriceResponse:
        """Set what a model costs; this also makes the model known. It replaces the price data's price permanently."""
        return render.price(unwrap(await platform.put_price(provider, model, body.to_core(), by=by.token_id)))

    @router.get("/{provider}/{model:path}", dependencies=[guard.reads])
    async def show_price(provider: str, model: str) -> responses.PriceResponse:
        """Show what a model costs."""
        return render.price(unwrap(platform.price(provider, model), "price"))

    @router.get("", dependencies=[guard.reads])
    async def list_prices(
        provider: Annotated[str | None, Query(max_length=63)] = None,
        after: After = "",
        limit: Limit = PAGE_DEFAULT,
    ) -> responses.PricesResponse:
        """List prices by provider and model."""
        every = sorted(platform.prices(provider), key=_name)
        found = [price for price in every if _name(price) > after][: limit + 1]
        prices, next_ = page(found, limit, render.price, _name)
        return responses.PricesResponse(prices=prices, next=next_)

    return router


def operator_routes(platform: Platform, guard: Guard) -> APIRouter:
    """The tokens of this API."""
    router = new_router("/v1/operators", "operators")

    @router.post("", status_code=201)
    async def create_operator(
        body: requests.OperatorRequest, by: Operator = guard.writes
    ) -> responses.IssuedTokenResponse:
        """Create a token for this API. Its text is returned this once."""
        issued = unwrap(await platform.create_operator(body.role, by=by.token_id))
        return render.issued_token(issued.operator, issued.text)

    @router.get("", dependencies=[guard.reads])
    async def list_operators(after: After = "", limit: Limit = PAGE_DEFAULT) -> responses.OperatorsResponse:
        """List the tokens of this API by id, without their text."""
        every = sorted(platform.operators(), key=lambda operator: operator.token_id)
        found = [operator for operator in every if operator.token_id > after][: limit + 1]
        operators, next_ = page(found, limit, render.operator, lambda operator: operator.token_id)
        return responses.OperatorsResponse(operators=operators, next=next_)

    @router.post("/{operator}/revoke")
    async def revoke_operator(
        operator: str, body: requests.RevokeRequest | None = None, by: Operator = guard.writes
    ) -> responses.OperatorResponse:
        """Revoke a token of this API, even one's own; the last platform admin's stays. Repeating changes nothing."""
        reason = body.reason if body else ""
        return render.operator(unwrap(await platform.revoke_operator(operator, reason=reason, by=by.token_id)))

    return router


def _name(price: Price) -> str:
    return f"{price.provider}/{price.model}"
