"""Which providers there are, what their models cost, and their decrypted credentials: three buckets in memory.

Decrypted credentials live in header blocks, which never show themselves, and nowhere else. One that was removed is kept
to redact answers, until RETIRED_MAX others were removed after it.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Final, TypeVar

import msgspec

from keyforge.contracts.directory import CredentialEntry, PriceBook, ProviderEntry
from keyforge.contracts.events import Attempt
from keyforge.contracts.ids import CredentialId, ProviderId
from keyforge.contracts.unreadable import UNREADABLE
from keyforge.edge.application.provider_call import HeaderBlock
from keyforge.edge.core.dialects.additions import OUTPUT_TOKENS_DEFAULT, Additions
from keyforge.edge.core.routing import auth
from keyforge.edge.core.routing.catalogue import EMPTY, Catalogue
from keyforge.edge.core.routing.credential_pool import CredentialPool, PooledCredential
from keyforge.edge.core.routing.origin import ProviderAddress, parse_base_url
from keyforge.runtime import logs
from keyforge.runtime.buckets import Entry
from keyforge.runtime.encryption import Binding, Decrypter

Decrypt = Callable[[CredentialEntry], str]
"""Decrypts a credential. Raises ValueError for one that is not encrypted to us or has another purpose."""

T = TypeVar("T", bound=msgspec.Struct)

SECRET_BYTES_MIN: Final = 8
"""What is shorter is no secret, but a placeholder for a provider that needs none; answers may contain it."""
RETIRED_MAX: Final = 200
"""Removed credentials: what a provider may still quote of them on a call that runs is kept from the agent."""
DEFAULT_PREFIX: Final = "/v1"
"""The path of a base URL that has none."""

_PROVIDER: Final = msgspec.json.Decoder(ProviderEntry)
_BOOK: Final = msgspec.json.Decoder(PriceBook)
_CREDENTIAL: Final = msgspec.json.Decoder(CredentialEntry)


_LINES: Final = ((b"content-type", b"application/json"), (b"user-agent", b"keyforge"))


class _Held(msgspec.Struct, frozen=True):
    """A credential as it is sent: `block` has it in the header of its provider's `auth`."""

    entry: CredentialEntry
    auth: str
    block: HeaderBlock
    secret: bytes

    def __repr__(self) -> str:
        return f"_Held({self.entry.credential})"


class BucketProviderRegistry:
    """`ProviderRegistry` over the three platform buckets. `catalogue` is replaced as a whole when it changes."""

    def __init__(self, decrypt: Decrypt, output_tokens_default: int = OUTPUT_TOKENS_DEFAULT) -> None:
        self.catalogue: Catalogue = EMPTY
        self.additions = Additions(output_tokens_default)
        self._decrypt = decrypt
        self._loaded: set[str] = set()
        self._providers: dict[str, ProviderEntry] = {}
        self._books: dict[str, PriceBook] = {}
        self._credentials: dict[str, CredentialEntry] = {}
        self._addresses: dict[ProviderId, ProviderAddress] = {}
        self._pools: dict[ProviderId, CredentialPool] = {}
        self._held: dict[CredentialId, _Held] = {}
        self._retired: dict[CredentialId, _Held] = {}
        self._logger = logs.get("providers")

    def loaded(self) -> bool:
        """Return whether all three buckets were read to their end once."""
        return len(self._loaded) == 3

    def address(self, provider: ProviderId) -> ProviderAddress | None:
        """See `ProviderRegistry`."""
        return self._addresses.get(provider)

    def pool(self, provider: ProviderId) -> CredentialPool:
        """See `ProviderRegistry`."""
        found = self._pools.get(provider)
        if found is None:
            found = self._pools[provider] = CredentialPool()
        return found

    def headers(self, credential: CredentialId) -> HeaderBlock | None:
        """See `ProviderRegistry`."""
        found = self._held.get(credential)
        return found.block if found else None

    def redact(self, attempts: Iterable[Attempt], text: bytes) -> bytes:
        """See `ProviderRegistry`."""
        for attempt in attempts:
            held = self._held.get(attempt.credential) or self._retired.get(attempt.credential)
            if held is not None and len(held.secret) >= SECRET_BYTES_MIN:
                text = text.replace(held.secret, b"[redacted]")
        return text

    def apply_providers(self, changes: list[Entry], *, loaded: bool) -> None:
        """Apply changes of PROVIDERS_BUCKET."""
        _apply(self._providers, _PROVIDER, changes)
        self._addresses = {}
        for entry in self._providers.values():
            try:
                address = parse_base_url(entry.base_url, allow_insecure=entry.allow_insecure)
            except ValueError as fault:
                self._logger.error("a base URL cannot be used", provider=entry.provider, error=str(fault))
            else:
                self._addresses[entry.provider] = ProviderAddress(address.origin, address.prefix or DEFAULT_PREFIX)
        self._applied("providers", loaded=loaded)

    def apply_prices(self, changes: list[Entry], *, loaded: bool) -> None:
        """Apply changes of PRICES_BUCKET."""
        _apply(self._books, _BOOK, changes)
        self._applied("prices", loaded=loaded)

    def apply_credentials(self, changes: list[Entry], *, loaded: bool) -> None:
        """Apply changes of CREDENTIALS_BUCKET."""
        _apply(self._credentials, _CREDENTIAL, changes)
        self._applied("credentials", loaded=loaded)

    def _applied(self, bucket: str, *, loaded: bool) -> None:
        if loaded:
            self._loaded.add(bucket)
        if self.loaded():
            self.catalogue = Catalogue.of(self._providers.values(), self._books.values())
            self._renew_pools()

    def _renew_pools(self) -> None:
        """Decrypt what is new; a credential is used only at the address that it was encrypted for."""
        members: dict[ProviderId, list[PooledCredential]] = {entry.provider: [] for entry in self._providers.values()}
        kept: dict[CredentialId, _Held] = {}
        for entry in self._credentials.values():
            provider = self._providers.get(entry.provider)
            if entry.status != "active" or provider is None or provider.base_url != entry.base_url:
                continue
            held = self._held.get(entry.credential)
            if held is None or (held.entry, held.auth) != (entry, provider.auth):
                held = self._open(entry, provider.auth)
            if held is None:
                continue
            kept[entry.credential] = held
            members[entry.provider].append(PooledCredential(entry.credential, entry.weight, entry.quota_group))
        self._retire(kept.keys())
        self._held = kept
        for name, found in members.items():
            self.pool(name).renew(sorted(found, key=lambda member: member.credential))

    def _retire(self, stay: Collection[CredentialId]) -> None:
        for credential, held in self._held.items():
            if credential not in stay:
                self._retired[credential] = held
        while len(self._retired) > RETIRED_MAX:
            del self._retired[next(iter(self._retired))]

    def _open(self, entry: CredentialEntry, how: str) -> "_Held | None":
        try:
            secret = self._decrypt(entry).encode("ascii")
            line = auth.line_of(how, secret)
            if line is None:
                self._logger.error(
                    "a provider's `auth` is not known to this version", provider=entry.provider, auth=how
                )
                return None
            return _Held(entry, how, HeaderBlock.of((line, *_LINES)), secret)
        except ValueError:
            # The error may quote the secret: only the name is logged.
            self._logger.error("a credential cannot be decrypted", credential=entry.credential, provider=entry.provider)
            return None


def decrypting(decrypter: Decrypter) -> Decrypt:
    """Return what decrypts a credential for what it was encrypted for, and for nothing else."""

    def decrypt(entry: CredentialEntry) -> str:
        binding = Binding(
            credential=entry.credential, version=entry.version, provider=entry.provider, base_url=entry.base_url
        )
        return decrypter.decrypt(entry.encrypted, binding)

    return decrypt


def _apply(known: dict[str, T], decoder: "msgspec.json.Decoder[T]", changes: list[Entry]) -> None:
    for entry in changes:
        if entry.value is None:
            known.pop(entry.key, None)
            continue
        try:
            known[entry.key] = decoder.decode(entry.value)
        except UNREADABLE as fault:
            known.pop(entry.key, None)
            logs.get("providers").error("an entry cannot be read", key=entry.key, error=str(fault))
