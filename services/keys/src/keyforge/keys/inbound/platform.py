"""Providers, credentials, prices and operators over HTTP. Handlers translate; what is allowed is decided in `core`."""

from typing import Annotated

from fastapi import APIRouter, Query

from keyforge.keys.core.facts import Price
from keyforge.keys.feed import PriceFeed
from keyforge.keys.inbound import answers, bodies
from keyforge.keys.inbound.handling import PAGE_DEFAULT, After, Guard, Limit, granted, page
from keyforge.keys.inbound.handling import router as new_router
from keyforge.keys.platform_facts import Platform
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
    async def list_credentials(provider: str) -> answers.CredentialPage:
        """List a provider's credentials, without what they hold."""
        found = granted(platform.credentials(provider))
        return answers.CredentialPage(data=[answers.credential(credential) for credential in found])

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
    """Further tokens for this API."""
    router = new_router("/v1/operators", "operators")

    @router.post("", status_code=201)
    async def create_operator(body: bodies.OperatorBody, by: Operator = guard.writes) -> answers.IssuedTokenAnswer:
        """Issue a further token for this API. Its text is shown this once."""
        issued = granted(await platform.create_operator(body.role, by=by.token_id))
        operator = issued.operator
        return answers.IssuedTokenAnswer(id=operator.token_id, role=operator.role, token=issued.text)

    return router


def _name(price: Price) -> str:
    return f"{price.provider}/{price.model}"
