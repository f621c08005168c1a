"""What keys would have written for the edge's tests: tenants, keys, providers, prices, encrypted credentials."""

import asyncio
import secrets as entropy
from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec

from keyforge.contracts import directory, frame, subjects
from keyforge.contracts.directory import CredentialEntry, KeyEntry, PriceBook, PriceEntry, ProviderEntry
from keyforge.contracts.events import Event, KeyCreated, KeyRevoked, KeyUpdated, TenantCreated, TenantUpdated
from keyforge.contracts.frame import Recorded
from keyforge.contracts.ids import CredentialId, KeyId, ModelName, PriceId, ProviderId, TenantId, TokenId
from keyforge.contracts.keyformat import ID_BYTES, SECRET_BYTES, KeySecrets, Minted, mint
from keyforge.contracts.limits import Limit
from keyforge.contracts.usage import UnitPrices
from keyforge.eventlog.jetstream import JetStreamLog
from keyforge.runtime.buckets import Bucket
from keyforge.runtime.bus import Bus
from keyforge.runtime.encryption import Binding, Decrypter, Encrypter
from keyforge.runtime.tenant_secrets import SecretWrapper
from keyforge.testkit.encrypted_names import encrypted
from keyforge.testkit.ticks import append_tick

ROOT = bytes(range(32))
COMMITMENT_SECRET = bytes(range(1, 33))
SECRETS = KeySecrets.derive(ROOT)
TENANT = TenantId("acme")
BY = TokenId("fixture")
PROVIDER = ProviderId("sim")
MODEL = ModelName("gpt-sim")
USD = 1_000_000_000
WITHIN_S = 60.0
POLL_S = 0.02

PRICES = UnitPrices(
    input_nusd=100_000_000,
    cache_read_nusd=50_000_000,
    cache_write_1h_nusd=200_000_000,
    cache_write_nusd=125_000_000,
    input_audio_nusd=100_000_000,
    output_nusd=1_000_000_000,
    reasoning_nusd=1_000_000_000,
    output_audio_nusd=1_000_000_000,
)


class Facts:
    """Writes to the log and the buckets as keys does. `bus`, `log` and `sim_url` are set by what starts them."""

    def __init__(self, private_key: str) -> None:
        self._encrypter = Encrypter(Decrypter(private_key).public_key)
        self._revision = 1
        self.bus: Bus
        self.log: JetStreamLog
        self.sim_url = ""

    async def seed(self) -> None:
        """One tenant, one provider with one model and one credential."""
        await self.append(
            0,
            TenantCreated(
                tenant=TENANT,
                name=encrypted("Acme"),
                plan="",
                partition=0,
                limits=(),
                revision=1,
                secret_version=1,
                by=BY,
            ),
            f"tenant.{TENANT}.1",
        )
        secret = SecretWrapper(COMMITMENT_SECRET).new_entry(TENANT)
        await Bucket(self.bus.nats_py, self.log, subjects.TENANT_SECRETS_BUCKET).put(TENANT, secret)
        await self.provider(PROVIDER, [MODEL])
        await self.credential(PROVIDER, CredentialId("one"), "fixture-credential-one")

    async def append(self, partition: int, event: Event, id_: str) -> None:
        message = frame.encode([Recorded(id_, "keys", datetime.now(UTC), event)])
        async with asyncio.timeout(WITHIN_S):
            await append_tick(self.log, partition, message)

    async def put(self, bucket: str, key: str, entry: msgspec.Struct) -> None:
        await Bucket(self.bus.nats_py, self.log, bucket).put(key, directory.encode(entry))

    async def provider(
        self, provider: ProviderId, models: Iterable[str], *, url: str = "", kind: str = "openai"
    ) -> None:
        entry = ProviderEntry(
            provider=provider, kind=kind, base_url=url or self.sim_url, allow_insecure=True, revision=1
        )
        await self.put(subjects.PROVIDERS_BUCKET, provider, entry)
        price = PriceEntry(
            price_id=PriceId(f"{provider}.1"), prices=PRICES, max_output_tokens=None, context_tokens=None
        )
        book = PriceBook(provider=provider, models={ModelName(model): price for model in models})
        await self.put(subjects.PRICES_BUCKET, provider, book)

    async def credential(
        self, provider: ProviderId, id_: CredentialId, secret: str, *, group: str = "", url: str = ""
    ) -> None:
        base_url = url or self.sim_url
        binding = Binding(credential=id_, version=1, provider=provider, base_url=base_url)
        entry = CredentialEntry(
            credential=id_,
            provider=provider,
            base_url=base_url,
            encrypted=self._encrypter.encrypt(secret, binding),
            encrypted_to=self._encrypter.key_id,
            weight=1,
            quota_group=group or id_,
            version=1,
        )
        await self.put(subjects.CREDENTIALS_BUCKET, f"{provider}.{id_}", entry)

    async def key(
        self,
        *,
        models: tuple[str, ...] | None = None,
        limits: tuple[Limit, ...] = (),
        max_output_tokens: int | None = None,
        projected: bool = True,
    ) -> Minted:
        """Issue a key of the tenant; `projected` False: the directory has not followed the log yet."""
        minted = mint("vk", SECRETS, entropy.token_bytes(ID_BYTES), entropy.token_bytes(SECRET_BYTES))
        event = KeyCreated(
            key_id=KeyId(minted.id),
            tenant=TENANT,
            name=encrypted("agent"),
            digest=minted.digest,
            models=models,
            limits=limits,
            max_output_tokens=max_output_tokens,
            expires_at=None,
            revision=1,
            secret_version=1,
            by=BY,
        )
        await self.append(0, event, f"key.{minted.id}.1")
        if projected:
            await self.put(subjects.DIRECTORY_BUCKET, minted.id, entry_of(event))
        return minted

    async def update(self, minted: Minted, *, models: tuple[str, ...] | None, revision: int) -> None:
        event = KeyUpdated(
            key_id=KeyId(minted.id),
            tenant=TENANT,
            name=encrypted("agent"),
            models=models,
            limits=(),
            max_output_tokens=None,
            expires_at=None,
            revision=revision,
            secret_version=1,
            by=BY,
        )
        await self.append(0, event, f"key.{minted.id}.{revision}")

    async def suspend(self, *, lift: bool = False) -> None:
        self._revision += 1
        event = TenantUpdated(
            tenant=TENANT,
            name=encrypted("Acme"),
            plan="",
            status="active" if lift else "suspended",
            limits=(),
            revision=self._revision,
            secret_version=1,
            by=BY,
        )
        await self.append(0, event, f"tenant.{TENANT}.{self._revision}")

    async def revoke(self, minted: Minted, *, revision: int = 2) -> None:
        event = KeyRevoked(
            key_id=KeyId(minted.id), tenant=TENANT, reason=encrypted("test"), revision=revision, secret_version=1, by=BY
        )
        await self.append(0, event, f"key.{minted.id}.{revision}")


def entry_of(event: KeyCreated) -> KeyEntry:
    """Return the directory entry of a fresh key in partition 0."""
    return KeyEntry(
        key_id=event.key_id,
        tenant=event.tenant,
        partition=0,
        digest=event.digest,
        status="active",
        models=event.models,
        max_output_tokens=event.max_output_tokens,
        expires_at=event.expires_at,
        revision=event.revision,
    )
