"""What providers there are, what their models cost, and the opened credentials: followed in their buckets, in memory.

Opened credentials live in header blocks, which never show themselves, and nowhere else. What one block held is
forgotten with the process, or when RETIRED_MAX others went after it.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Final, TypeVar

import msgspec

from keyforge.contracts.directory import CredentialEntry, PriceBook, ProviderEntry
from keyforge.contracts.events import Attempt
from keyforge.contracts.ids import CredentialId, ProviderId
from keyforge.contracts.unreadable import UNREADABLE
from keyforge.edge.core.routing.catalogue import EMPTY, Catalogue
from keyforge.edge.core.routing.credential_pool import Member, Pool
from keyforge.edge.outbound.provider_http.seam import HeaderBlock, Origin, parse_base_url
from keyforge.runtime import logs
from keyforge.runtime.buckets import Entry

Opener = Callable[[CredentialEntry], str]
"""Opens a sealed credential. Raises ValueError for one that is not sealed to us, or was sealed for another purpose."""

T = TypeVar("T", bound=msgspec.Struct)

BEARER: Final = b"Bearer "
SECRET_BYTES_MIN: Final = 8
"""What is shorter is no secret, but a word for a provider that asks for none; an answer may well contain it."""
RETIRED_MAX: Final = 200
"""Credentials that went: what a provider may yet say about them on a call that still runs is kept from the agent."""
DEFAULT_PREFIX: Final = "/v1"
"""The path of a base URL that has none."""

_PROVIDER: Final = msgspec.json.Decoder(ProviderEntry)
_BOOK: Final = msgspec.json.Decoder(PriceBook)
_CREDENTIAL: Final = msgspec.json.Decoder(CredentialEntry)


class Address(msgspec.Struct, frozen=True):
    """Where a provider is called: its origin, and the path that its routes are behind."""

    origin: Origin
    prefix: str


class Providers:
    """The state of the three platform buckets. `catalogue` is replaced as a whole when it changes."""

    def __init__(self, opener: Opener) -> None:
        self.catalogue: Catalogue = EMPTY
        self._opener = opener
        self._loaded: set[str] = set()
        self._providers: dict[str, ProviderEntry] = {}
        self._books: dict[str, PriceBook] = {}
        self._credentials: dict[str, CredentialEntry] = {}
        self._addresses: dict[ProviderId, Address] = {}
        self._pools: dict[ProviderId, Pool] = {}
        self._headers: dict[CredentialId, tuple[CredentialEntry, HeaderBlock]] = {}
        self._retired: dict[CredentialId, HeaderBlock] = {}
        self._log = logs.get("providers")

    def loaded(self) -> bool:
        """Say whether all three buckets were read to their end once."""
        return len(self._loaded) == 3

    def address(self, provider: ProviderId) -> Address | None:
        """Return where to call a provider; None: its base URL cannot be used."""
        return self._addresses.get(provider)

    def pool(self, provider: ProviderId) -> Pool:
        """Return the credentials of a provider; empty if there are none."""
        found = self._pools.get(provider)
        if found is None:
            found = self._pools[provider] = Pool()
        return found

    def headers(self, credential: CredentialId) -> HeaderBlock | None:
        """Return the header lines that carry a credential; None if it has gone."""
        found = self._headers.get(credential)
        return found[1] if found else None

    def without_secrets(self, attempts: Iterable[Attempt], said: bytes) -> bytes:
        """Return what a provider said without the credentials that it was called with: some quote them in errors."""
        for attempt in attempts:
            block = self.headers(attempt.credential) or self._retired.get(attempt.credential)
            if block is None:
                continue
            secret = block.pairs[0][1].removeprefix(BEARER)
            if len(secret) >= SECRET_BYTES_MIN:
                said = said.replace(secret, b"[redacted]")
        return said

    def hear_providers(self, changes: list[Entry], *, loaded: bool) -> None:
        """Take changes of PROVIDERS_BUCKET."""
        _take(self._providers, _PROVIDER, changes)
        self._addresses = {}
        for entry in self._providers.values():
            try:
                origin, prefix = parse_base_url(entry.base_url, allow_insecure=entry.allow_insecure)
            except ValueError as fault:
                self._log.error("a base URL that cannot be used", provider=entry.provider, error=str(fault))
            else:
                self._addresses[entry.provider] = Address(origin, prefix or DEFAULT_PREFIX)
        self._heard("providers", loaded=loaded)

    def hear_prices(self, changes: list[Entry], *, loaded: bool) -> None:
        """Take changes of PRICES_BUCKET."""
        _take(self._books, _BOOK, changes)
        self._heard("prices", loaded=loaded)

    def hear_credentials(self, changes: list[Entry], *, loaded: bool) -> None:
        """Take changes of CREDENTIALS_BUCKET."""
        _take(self._credentials, _CREDENTIAL, changes)
        self._heard("credentials", loaded=loaded)

    def _heard(self, what: str, *, loaded: bool) -> None:
        if loaded:
            self._loaded.add(what)
        if self.loaded():
            self.catalogue = Catalogue.of(self._providers.values(), self._books.values())
            self._renew_pools()

    def _renew_pools(self) -> None:
        """Open what is new; a credential is used only at the address that it was sealed for."""
        members: dict[ProviderId, list[Member]] = {entry.provider: [] for entry in self._providers.values()}
        headers: dict[CredentialId, tuple[CredentialEntry, HeaderBlock]] = {}
        for entry in self._credentials.values():
            provider = self._providers.get(entry.provider)
            if entry.status != "active" or provider is None or provider.base_url != entry.base_url:
                continue
            known = self._headers.get(entry.credential)
            block = known[1] if known is not None and known[0] == entry else self._open(entry)
            if block is None:
                continue
            headers[entry.credential] = (entry, block)
            members[entry.provider].append(Member(entry.credential, entry.weight, entry.quota_group))
        self._retire(headers.keys())
        self._headers = headers
        for name, found in members.items():
            self.pool(name).renew(sorted(found, key=lambda member: member.credential))

    def _retire(self, stay: Collection[CredentialId]) -> None:
        for credential, (_, block) in self._headers.items():
            if credential not in stay:
                self._retired[credential] = block
        while len(self._retired) > RETIRED_MAX:
            del self._retired[next(iter(self._retired))]

    def _open(self, entry: CredentialEntry) -> HeaderBlock | None:
        try:
            return HeaderBlock.of(
                (
                    (b"authorization", BEARER + self._opener(entry).encode("ascii")),
                    (b"content-type", b"application/json"),
                    (b"user-agent", b"keyforge"),
                )
            )
        except ValueError:
            # What went wrong may quote the secret: only its name is said.
            self._log.error("a credential cannot be opened", credential=entry.credential, provider=entry.provider)
            return None


def _take(known: dict[str, T], decoder: "msgspec.json.Decoder[T]", changes: list[Entry]) -> None:
    for entry in changes:
        if entry.value is None:
            known.pop(entry.key, None)
            continue
        try:
            known[entry.key] = decoder.decode(entry.value)
        except UNREADABLE as fault:
            known.pop(entry.key, None)
            logs.get("providers").error("an unreadable entry", key=entry.key, error=str(fault))
