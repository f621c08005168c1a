"""What belongs to no tenant: providers, credentials, prices, operators. The rules are in `core`."""

import os
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final, get_args

import msgspec

from keyforge.contracts import keyformat
from keyforge.contracts.errors import Problem, problem
from keyforge.contracts.events import Role
from keyforge.contracts.ids import CredentialId, ProviderId, TokenId
from keyforge.contracts.keyformat import KeySecrets
from keyforge.keys.application.commits import Commits, Known, all_of, as_a
from keyforge.keys.application.ports import PLATFORM, Decided
from keyforge.keys.core import facts, prices, providers
from keyforge.keys.core.facts import Credential, Operator, Price, Provider
from keyforge.keys.core.prices import PriceAsk, Proposal
from keyforge.keys.core.providers import VERSION, NewProvider, SealedCredential
from keyforge.runtime.sealing import Binding, Sealer

BOOTSTRAP: Final = TokenId("bootstrap")
"""Who the first operator is created by."""


class IssuedToken(msgspec.Struct, frozen=True):
    """An operator's token that was just made. `text` is shown this once and kept nowhere."""

    operator: Operator
    text: str


class Platform:
    """Commands and look-ups about platform facts."""

    def __init__(
        self,
        commits: Commits,
        secrets: KeySecrets,
        sealer: Sealer,
        *,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._commits = commits
        self._secrets = secrets
        self._sealer = sealer
        self._entropy = entropy
        self._book = commits.book(PLATFORM)

    def provider(self, provider: str) -> Provider | None:
        """Return a provider."""
        return as_a(Provider, self._book.committed(facts.provider_id(provider)))

    def providers(self, *, after: str = "", limit: int | None = None) -> list[Provider]:
        """Return providers as they were registered, those behind `after`."""
        cursor = after and facts.provider_id(after)
        return all_of(Provider, self._book.listed(facts.PROVIDERS, after=cursor, limit=limit))

    def credentials(self, provider: str, *, after: str = "", limit: int | None = None) -> list[Credential] | None:
        """Return a provider's credentials as they were added, those behind `after`; None: there is no such provider."""
        if self.provider(provider) is None:
            return None
        cursor = after and facts.credential_id(after)
        return all_of(Credential, self._book.listed(facts.credentials_of(provider), after=cursor, limit=limit))

    def price(self, provider: str, model: str) -> Price | None:
        """Return a model's price."""
        return as_a(Price, self._book.committed(facts.price_id(provider, model)))

    def prices(self, provider: str | None = None) -> list[Price]:
        """Return the prices of a provider, or of all."""
        shelves = [provider] if provider is not None else [one.provider for one in self.providers()]
        return [price for one in shelves for price in all_of(Price, self._book.listed(facts.prices_of(one)))]

    def operators(self) -> list[Operator]:
        """Return all operators there ever were, role by role as they were created."""
        shelves = [facts.operators_of(role) for role in get_args(Role)]
        return [operator for shelf in shelves for operator in all_of(Operator, self._book.listed(shelf))]

    async def register(self, ask: NewProvider, *, by: TokenId) -> Provider | Problem:
        """Register a provider, or give it other settings."""
        id_ = facts.provider_id(ask.provider)

        def decide(known: Known, _: datetime) -> Decided:
            return providers.register(known.get(Provider, id_), ask, by=by)

        return await self._commits.do(PLATFORM, Provider, id_, decide)

    async def add_credential(
        self, provider: str, secret: str, *, weight: int, quota_group: str | None, by: TokenId
    ) -> Credential | Problem:
        """Seal a credential to the edges and add it: from here on only they can read it."""
        registered = self.provider(provider)
        if registered is None:
            return problem("not_found")
        credential = CredentialId(self._mint().id)
        url = registered.base_url
        binding = Binding(credential=credential, version=VERSION, provider=registered.provider, base_url=url)
        ask = SealedCredential(
            credential=credential,
            base_url=url,
            sealed=self._sealer.seal(secret, binding),
            sealed_to=self._sealer.key_id,
            weight=weight,
            quota_group=quota_group or credential,
        )

        def decide(known: Known, _: datetime) -> Decided:
            owner = known.get(Provider, facts.provider_id(provider))
            held = known.live(facts.credentials_of(provider))
            return providers.add_credential(owner, ask, credentials=held, by=by)

        return await self._commits.do(PLATFORM, Credential, facts.credential_id(credential), decide)

    async def revoke_credential(
        self, provider: str, credential: str, *, reason: str, by: TokenId
    ) -> Credential | Problem:
        """End a credential. Edges that hear of it use it for no further call; calls that run are not cut."""
        id_ = facts.credential_id(credential)

        def decide(known: Known, _: datetime) -> Decided:
            return providers.revoke_credential(known.get(Credential, id_), provider, reason=reason, by=by)

        return await self._commits.do(PLATFORM, Credential, id_, decide)

    async def put_price(self, provider: str, model: str, ask: PriceAsk, *, by: TokenId) -> Price | Problem:
        """Set a model's price by an operator's word."""
        id_ = facts.price_id(provider, model)

        def decide(known: Known, _: datetime) -> Decided:
            owner = known.get(Provider, facts.provider_id(provider))
            size = known.shared_bytes(facts.prices_of(provider))
            return prices.put(owner, model, known.get(Price, id_), ask, book_bytes=size, by=by)

        return await self._commits.do(PLATFORM, Price, id_, decide)

    async def feed_prices(self, provider: ProviderId, proposals: Sequence[Proposal], *, source: str) -> int | Problem:
        """Take in price data, no more of it than one frame holds; return how many prices were news."""

        def decide(known: Known, _: datetime) -> Decided:
            found = [known.get(Price, facts.price_id(provider, one.model)) for one in proposals]
            current = {price.model: price for price in found if price is not None}
            size = known.shared_bytes(facts.prices_of(provider))
            return prices.feed(provider, current, proposals, book_bytes=size, source=source)

        return await self._commits.do_quietly(PLATFORM, decide)

    async def show_prices(self, provider: ProviderId) -> None:
        """Bring a provider's price book up to date."""
        await self._commits.show(PLATFORM, [price.id for price in self.prices(provider)])

    async def create_operator(self, role: Role, *, by: TokenId) -> IssuedToken | Problem:
        """Issue a token for the operators' API."""
        minted = self._mint()
        operator = await self._take(TokenId(minted.id), role, minted.digest, by=by)
        return operator if isinstance(operator, Problem) else IssuedToken(operator, minted.text)

    async def revoke_operator(self, token: str, *, reason: str, by: TokenId) -> Operator | Problem:
        """End an operator's token. Services refuse it as soon as its entry says so; that is before this returns, unless
        the bucket cannot be written right now."""
        id_ = facts.operator_id(token)

        def decide(known: Known, _: datetime) -> Decided:
            admins = known.live(facts.operators_of("platform-admin"))
            return providers.revoke_operator(known.get(Operator, id_), admins_live=admins, reason=reason, by=by)

        return await self._commits.do(PLATFORM, Operator, id_, decide)

    async def bootstrap(self, token: str) -> Operator | Problem | None:
        """Take in the first platform admin's token; None if there ever was an operator: a revoked one stays out."""
        if self.operators():
            return None
        token_id = keyformat.parse_id("kfa", token, self._secrets)
        if token_id is None:
            return problem("token_invalid")
        digest = keyformat.digest(token, self._secrets)
        taken = await self._take(TokenId(token_id), "platform-admin", digest, by=BOOTSTRAP, first=True)
        if isinstance(taken, Problem) and (others := self.operators()):
            # A service that started at the same moment was first. Whether it lived to show that, nobody knows here.
            await self._commits.show(PLATFORM, [one.id for one in others])
            return None
        return taken

    async def _take(
        self, token_id: TokenId, role: Role, digest: str, *, by: TokenId, first: bool = False
    ) -> Operator | Problem:
        id_ = facts.operator_id(token_id)

        def decide(known: Known, _: datetime) -> Decided:
            if first and self.operators():
                return problem("already_exists")
            return providers.create_operator(
                known.get(Operator, id_), token_id=token_id, role=role, digest=digest, by=by
            )

        return await self._commits.do(PLATFORM, Operator, id_, decide)

    def _mint(self) -> keyformat.Minted:
        entropy = self._entropy
        return keyformat.mint("kfa", self._secrets, entropy(keyformat.ID_BYTES), entropy(keyformat.SECRET_BYTES))
