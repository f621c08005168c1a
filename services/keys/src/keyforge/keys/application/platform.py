"""The use cases of what belongs to no tenant: providers, credentials, prices, operators' tokens."""

import os
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final, get_args

import msgspec

from keyforge.contracts import keyformat
from keyforge.contracts.errors import Problem, not_found, problem
from keyforge.contracts.events import Role
from keyforge.contracts.ids import CredentialId, ProviderId, TokenId
from keyforge.contracts.keyformat import KeySecrets
from keyforge.keys.application.commits import Commits, KnownFacts, all_of, as_a
from keyforge.keys.application.ports import PLATFORM, Decided
from keyforge.keys.core import names, prices, providers
from keyforge.keys.core.facts import Credential, OperatorToken, Price, Provider
from keyforge.keys.core.prices import NewPrice, Proposal
from keyforge.keys.core.providers import CREDENTIAL_VERSION, EncryptedCredential, NewProvider
from keyforge.runtime.encryption import Binding, Encrypter

BOOTSTRAP: Final = TokenId("bootstrap")
"""Recorded as who created the first operator's token."""


class IssuedToken(msgspec.Struct, frozen=True):
    """An operator's token that was just created. `text` is returned once and stored nowhere."""

    operator: OperatorToken
    text: str


class Platform:
    """Commands and look-ups of platform facts."""

    def __init__(
        self,
        commits: Commits,
        secrets: KeySecrets,
        encrypter: Encrypter,
        *,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._commits = commits
        self._secrets = secrets
        self._encrypter = encrypter
        self._entropy = entropy
        self._index = commits.index(PLATFORM)

    def provider(self, provider: str) -> Provider | None:
        """Return a provider."""
        return as_a(Provider, self._index.committed(names.provider_id(provider)))

    def providers(self, *, after: str = "", limit: int | None = None) -> list[Provider]:
        """Return providers in order of registration, those after `after`."""
        cursor = after and names.provider_id(after)
        return all_of(Provider, self._index.listed(names.PROVIDERS, after=cursor, limit=limit))

    def credentials(self, provider: str, *, after: str = "", limit: int | None = None) -> list[Credential] | None:
        """Return a provider's credentials in order of addition, those after `after`; None: unknown provider."""
        if self.provider(provider) is None:
            return None
        cursor = after and names.credential_id(after)
        return all_of(Credential, self._index.listed(names.credentials_of(provider), after=cursor, limit=limit))

    def price(self, provider: str, model: str) -> Price | None:
        """Return a model's price."""
        return as_a(Price, self._index.committed(names.price_id(provider, model)))

    def prices(self, provider: str | None = None) -> list[Price]:
        """Return the prices of a provider, or of all."""
        owners = [provider] if provider is not None else [one.provider for one in self.providers()]
        return [price for owner in owners for price in all_of(Price, self._index.listed(names.prices_of(owner)))]

    def operators(self) -> list[OperatorToken]:
        """Return all operators' tokens, revoked ones included, by role and then in order of creation."""
        indexes = [names.operators_of(role) for role in get_args(Role)]
        return [token for index in indexes for token in all_of(OperatorToken, self._index.listed(index))]

    async def register(self, new: NewProvider, *, by: TokenId) -> Provider | Problem:
        """Register a provider, or change its settings."""
        id_ = names.provider_id(new.provider)

        def decide(known: KnownFacts, _: datetime) -> Decided:
            return providers.register(known.get(Provider, id_), new, by=by)

        return await self._commits.execute(PLATFORM, Provider, id_, decide)

    async def add_credential(
        self, provider: str, secret: str, *, weight: int, quota_group: str | None, by: TokenId
    ) -> Credential | Problem:
        """Encrypt a credential to the edges' public key and add it: from here on only they can read it."""
        registered = self.provider(provider)
        if registered is None:
            return not_found("provider")
        credential = CredentialId(self._mint().id)
        url = registered.base_url
        binding = Binding(credential=credential, version=CREDENTIAL_VERSION, provider=registered.provider, base_url=url)
        new = EncryptedCredential(
            credential=credential,
            base_url=url,
            encrypted=self._encrypter.encrypt(secret, binding),
            encrypted_to=self._encrypter.key_id,
            weight=weight,
            quota_group=quota_group or credential,
        )

        def decide(known: KnownFacts, _: datetime) -> Decided:
            owner = known.get(Provider, names.provider_id(provider))
            live = known.live(names.credentials_of(provider))
            return providers.add_credential(owner, new, credentials=live, by=by)

        return await self._commits.execute(PLATFORM, Credential, names.credential_id(credential), decide)

    async def revoke_credential(
        self, provider: str, credential: str, *, reason: str, by: TokenId
    ) -> Credential | Problem:
        """Revoke a credential. An edge that has read this makes no further call with it; running calls are not cut."""
        id_ = names.credential_id(credential)

        def decide(known: KnownFacts, _: datetime) -> Decided:
            return providers.revoke_credential(known.get(Credential, id_), provider, reason=reason, by=by)

        return await self._commits.execute(PLATFORM, Credential, id_, decide)

    async def put_price(self, provider: str, model: str, new: NewPrice, *, by: TokenId) -> Price | Problem:
        """Set a model's price for an operator."""
        id_ = names.price_id(provider, model)

        def decide(known: KnownFacts, _: datetime) -> Decided:
            owner = known.get(Provider, names.provider_id(provider))
            size = known.shared_bytes(names.prices_of(provider))
            return prices.put(owner, model, known.get(Price, id_), new, book_bytes=size, by=by)

        return await self._commits.execute(PLATFORM, Price, id_, decide)

    async def feed_prices(self, provider: ProviderId, proposals: Sequence[Proposal], *, source: str) -> int | Problem:
        """Store price data that differs, no more of it than one frame holds; return how many prices it changed."""

        def decide(known: KnownFacts, _: datetime) -> Decided:
            found = [known.get(Price, names.price_id(provider, one.model)) for one in proposals]
            current = {price.model: price for price in found if price is not None}
            size = known.shared_bytes(names.prices_of(provider))
            return prices.feed(provider, current, proposals, book_bytes=size, source=source)

        return await self._commits.execute_idempotent(PLATFORM, decide)

    async def project_prices(self, provider: ProviderId) -> None:
        """Bring a provider's price book up to date."""
        await self._commits.project(PLATFORM, [price.id for price in self.prices(provider)])

    async def create_operator(self, role: Role, *, by: TokenId) -> IssuedToken | Problem:
        """Issue a token for the operators' API."""
        minted = self._mint()
        operator = await self._create(TokenId(minted.id), role, minted.digest, by=by)
        return operator if isinstance(operator, Problem) else IssuedToken(operator, minted.text)

    async def revoke_operator(self, token: str, *, reason: str, by: TokenId) -> OperatorToken | Problem:
        """Revoke an operator's token.

        Services refuse it once its entry is updated: before this returns, unless the bucket cannot be written now.
        """
        id_ = names.operator_id(token)

        def decide(known: KnownFacts, _: datetime) -> Decided:
            admins = known.live(names.operators_of("platform-admin"))
            return providers.revoke_operator(known.get(OperatorToken, id_), admins_live=admins, reason=reason, by=by)

        return await self._commits.execute(PLATFORM, OperatorToken, id_, decide)

    async def bootstrap(self, token: str) -> OperatorToken | Problem | None:
        """Create the first platform admin's token; None if there ever was one: a revoked token stays revoked."""
        if self.operators():
            return None
        token_id = keyformat.parse_id("kfa", token, self._secrets)
        if token_id is None:
            return problem("token_invalid", "It must be a kfa_... token that was made with this KEYFORGE_KEY_SECRET.")
        digest = keyformat.digest(token, self._secrets)
        created = await self._create(TokenId(token_id), "platform-admin", digest, by=BOOTSTRAP, first=True)
        if isinstance(created, Problem) and (others := self.operators()):
            # A service that started at the same moment was first, and may have died before it wrote the entry.
            await self._commits.project(PLATFORM, [one.id for one in others])
            return None
        return created

    async def _create(
        self, token_id: TokenId, role: Role, digest: str, *, by: TokenId, first: bool = False
    ) -> OperatorToken | Problem:
        id_ = names.operator_id(token_id)

        def decide(known: KnownFacts, _: datetime) -> Decided:
            if first and self.operators():
                return problem("already_exists")
            return providers.create_operator(
                known.get(OperatorToken, id_), token_id=token_id, role=role, digest=digest, by=by
            )

        return await self._commits.execute(PLATFORM, OperatorToken, id_, decide)

    def _mint(self) -> keyformat.Minted:
        entropy = self._entropy
        return keyformat.mint("kfa", self._secrets, entropy(keyformat.ID_BYTES), entropy(keyformat.SECRET_BYTES))
