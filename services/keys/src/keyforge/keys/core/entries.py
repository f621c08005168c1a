"""What other services read of a fact: entries of the directory's buckets, and which of two entries is the later one."""

from collections.abc import Iterable

import msgspec

from keyforge.contracts import subjects
from keyforge.contracts.directory import (
    CredentialEntry,
    KeyEntry,
    PriceBook,
    PriceEntry,
    ProviderEntry,
    TokenEntry,
)
from keyforge.contracts.ids import ProviderId
from keyforge.keys.core.facts import Credential, Fact, Key, OperatorToken, Price, Provider
from keyforge.keys.core.prices import price_version
from keyforge.keys.core.providers import CREDENTIAL_VERSION

Entry = KeyEntry | TokenEntry | ProviderEntry | PriceBook | CredentialEntry

BUCKETS: dict[str, type[Entry]] = {
    subjects.DIRECTORY_BUCKET: KeyEntry,
    subjects.TOKENS_BUCKET: TokenEntry,
    subjects.PROVIDERS_BUCKET: ProviderEntry,
    subjects.PRICES_BUCKET: PriceBook,
    subjects.CREDENTIALS_BUCKET: CredentialEntry,
}


class EntryLocation(msgspec.Struct, frozen=True):
    """The bucket and key of an entry."""

    bucket: str
    key: str


def location_of(fact: Fact) -> EntryLocation | None:
    """Return where the entry of a fact is; None if it has none (tenants: budget folds the log)."""
    match fact:
        case Key():
            return EntryLocation(subjects.DIRECTORY_BUCKET, fact.key_id)
        case OperatorToken():
            return EntryLocation(subjects.TOKENS_BUCKET, fact.token_id)
        case Provider():
            return EntryLocation(subjects.PROVIDERS_BUCKET, fact.provider)
        case Price():
            return EntryLocation(subjects.PRICES_BUCKET, fact.provider)
        case Credential():
            return EntryLocation(subjects.CREDENTIALS_BUCKET, f"{fact.provider}.{fact.credential}")
        case _:
            return None


def entry_of(fact: Key | OperatorToken | Provider | Credential, partition: int) -> Entry:
    """Return the entry of a fact that shares it with no other; `partition` is the one that holds the fact."""
    match fact:
        case Key():
            return KeyEntry(
                key_id=fact.key_id,
                tenant=fact.tenant,
                partition=partition,
                digest=fact.digest,
                status=fact.status,
                models=fact.models,
                max_output_tokens=fact.max_output_tokens,
                expires_at=fact.expires_at,
                revision=fact.version,
            )
        case OperatorToken():
            return TokenEntry(token_id=fact.token_id, digest=fact.digest, role=fact.role, status=fact.status)
        case Provider():
            return ProviderEntry(
                provider=fact.provider,
                kind=fact.kind,
                base_url=fact.base_url,
                allow_insecure=fact.allow_insecure,
                revision=fact.version,
                dialects=fact.dialects,
                auth=fact.auth,
            )
        case Credential():
            return CredentialEntry(
                credential=fact.credential,
                provider=fact.provider,
                base_url=fact.base_url,
                encrypted=fact.encrypted if fact.live else "",
                encrypted_to=fact.encrypted_to,
                weight=fact.weight,
                quota_group=fact.quota_group,
                version=CREDENTIAL_VERSION,
                status=fact.status,
            )


def price_book(provider: ProviderId, prices: Iterable[Price]) -> PriceBook:
    """Return all prices of a provider as one entry."""
    return PriceBook(
        provider=provider,
        models={
            price.model: PriceEntry(
                price_id=price.price_id,
                prices=price.prices,
                max_output_tokens=price.max_output_tokens,
                context_tokens=price.context_tokens,
                max_thinking_tokens=price.max_thinking_tokens,
            )
            for price in prices
        },
    )


def later(stored: Entry | None, ours: Entry) -> Entry:
    """Return the entry to store: entries only move forward, so an older writer never undoes what a newer one wrote.

    A price book moves forward model by model.
    """
    if isinstance(stored, PriceBook) and isinstance(ours, PriceBook):
        models = dict(ours.models)
        for model, price in stored.models.items():
            if model not in models or price_version(price.price_id) > price_version(models[model].price_id):
                models[model] = price
        return PriceBook(provider=ours.provider, models=models)
    if stored is None or type(stored) is not type(ours):
        return ours
    return stored if _version(stored) > _version(ours) else ours


def _version(entry: Entry) -> int:
    """Return what orders two entries of one fact; tokens and credentials change once, when they are revoked."""
    if isinstance(entry, KeyEntry | ProviderEntry):
        return entry.revision
    return int(isinstance(entry, TokenEntry | CredentialEntry) and entry.status == "revoked")
