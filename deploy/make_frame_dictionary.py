"""Makes a dictionary for frames: `python deploy/make_frame_dictionary.py VERSION FILE` (docs/spec/frame-format.md).

Samples are events that the contracts themselves wrote, random by a fixed seed: nobody's data. The same samples make the
same dictionary with the same version of zstd (1.5.7 made the first). A dictionary that frames were stored with is never
made again: this is how it was made, and how a better one beside it may be.
"""

import base64
import random
import struct
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from keyforge.contracts import events as e
from keyforge.contracts import frame
from keyforge.contracts.frame import Recorded
from keyforge.contracts.ids import (
    CredentialId,
    EdgeId,
    KeyId,
    ModelName,
    OwnerId,
    PriceId,
    ProviderId,
    RequestId,
    RequestIds,
    TenantId,
    TokenId,
)
from keyforge.contracts.limits import Amounts, Debit, Limit, Unit, Window, key_scope, tenant_scope, window_id
from keyforge.contracts.personal_fields import EncryptedText
from keyforge.contracts.usage import UnitPrices, Usage

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

DICTIONARY_BYTES: Final = 8 * 1024
SAMPLES: Final = 2000
SEED: Final = 800_000
"""Of 35 pairs that were tried; between the best and the worst lie 8 % of an admission, 3 % of a full frame."""
CHARS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
MODELS: Final = (
    ("openai", "gpt-4o-mini"),
    ("openai", "gpt-4.1"),
    ("anthropic", "claude-sonnet-4-5"),
    ("openrouter", "deepseek/deepseek-chat"),
    ("groq", "llama-3.3-70b-versatile"),
    ("gemini", "gemini-2.5-flash"),
    ("mistral", "mistral-large-latest"),
    ("sim", "sim-small"),
)
LIMITS: Final[tuple[tuple[tuple[Unit, Window], ...], ...]] = (
    (("usd", "month"),),
    (("usd", "day"), ("requests", "minute")),
    (("usd", "month"), ("tokens", "minute")),
)


class Traffic:
    """What one key of one tenant might do, and its operators; a method for each kind of event."""

    def __init__(self, seed: int) -> None:
        rng = self.rng = random.Random(seed)  # noqa: S311 - samples, no secrets
        self.at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(microseconds=rng.randrange(3 * 365 * 86_400_000_000))
        self.ids = RequestIds(lambda: int(self.at.timestamp() * 1000), rng.randbytes)
        self.tenant = TenantId("".join(rng.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=rng.randint(4, 12))))
        self.key, self.by = KeyId(self.id12()), TokenId(self.id12())
        self.edge, self.owner = EdgeId(f"edge-{rng.randrange(4)}"), OwnerId(f"budget-{rng.randrange(2)}")
        provider, model = rng.choice(MODELS)
        self.provider, self.model = ProviderId(provider), ModelName(model)
        self.price_id, self.credential = PriceId(f"{provider}/{model}@{rng.randrange(1, 9)}"), CredentialId(self.id12())
        self.epoch, self.partition = rng.randrange(1, 40), rng.randrange(16)
        given, taken = rng.randrange(1, 4000) * 1_000_000, rng.randrange(1, 4000) * 4_000_000
        self.prices = UnitPrices(
            cache_read_nusd=rng.choice((given, given // 2, given // 10)),
            cache_write_1h_nusd=given,
            cache_write_nusd=given,
            input_audio_nusd=given,
            input_nusd=given,
            output_audio_nusd=taken,
            output_nusd=taken,
            reasoning_nusd=taken,
        )
        self.counted = rng.choice(LIMITS)
        self.limits = tuple(
            Limit(cap=rng.randrange(1, 100) * 10 ** rng.randint(1, 10), unit=unit, window=window)
            for unit, window in self.counted
        )

    def id12(self) -> str:
        return "".join(self.rng.choices(CHARS, k=12))

    def encrypted(self) -> EncryptedText:
        return EncryptedText(base64.b64encode(self.rng.randbytes(28 + self.rng.randint(2, 20))).decode())

    def recorded(self, id_: str, source: str, event: e.Event) -> Recorded:
        return Recorded(id_, source, self.at, event)

    def requested(self) -> RequestId:
        """Let some time pass; return the id of a new request."""
        self.at += timedelta(microseconds=self.rng.randrange(9000))
        return self.ids.next()

    def admitted(self) -> Recorded:
        id_, tokens = self.requested(), self.rng.randrange(200, 60_000)
        reserved = Amounts(nusd=tokens * self.prices.output_nusd // 1_000_000, tokens=tokens)
        debits = tuple(
            Debit(amount=reserved.of(unit), limit=f"{unit}/{window}", scope=scope, window_id=window_id(window, self.at))
            for scope in (key_scope(self.key), tenant_scope(self.tenant))
            for unit, window in self.counted
        )
        event = e.RequestAdmitted(
            body_commitment=self.rng.randbytes(32).hex(),
            deadline=self.at + timedelta(minutes=10),
            debits=debits,
            edge=self.edge,
            endpoint="chat.completions" if self.rng.random() < 0.9 else "embeddings",
            epoch=self.epoch,
            idempotency_hash=None if self.rng.random() < 0.9 else self.rng.randbytes(32).hex(),
            key_id=self.key,
            model=self.model,
            policy_revision=1,
            price_id=self.price_id,
            prices=self.prices,
            provider=self.provider,
            request_id=id_,
            reserved=reserved,
            secret_version=1,
            tenant=self.tenant,
        )
        return self.recorded(f"{id_}.admitted", f"budget/{self.owner}", event)

    def completed(self, id_: RequestId | None = None) -> Recorded:
        id_, took_ms = id_ or self.requested(), self.rng.randrange(20, 20_000)
        usage = Usage(
            cache_read_tokens=self.rng.choice((0, self.rng.randrange(4000))),
            input_tokens=self.rng.randrange(10, 9000),
            output_tokens=self.rng.randrange(1, 2000),
            reasoning_tokens=self.rng.choice((0, 0, self.rng.randrange(900))),
        )
        event = e.RequestCompleted(
            attempts=(e.Attempt(credential=self.credential, duration_ms=took_ms, sent=True, status=200),),
            duration_ms=took_ms + 1,
            edge=self.edge,
            first_byte_ms=self.rng.randrange(took_ms),
            key_id=self.key,
            outcome="ok",
            reported_cost_nusd=None,
            request_id=id_,
            response_commitment=self.rng.randbytes(32).hex(),
            secret_version=1,
            status=200,
            tenant=self.tenant,
            usage=usage,
            usage_source="provider",
        )
        return self.recorded(f"{id_}.completed", f"edge/{self.edge}", event)

    def cancelled(self) -> Recorded:
        id_ = self.requested()
        event = e.RequestCancelled(
            deadline=self.at + timedelta(minutes=10),
            edge=self.edge,
            key_id=self.key,
            reason="owner_unavailable",
            request_id=id_,
            tenant=self.tenant,
        )
        return self.recorded(f"{id_}.cancelled", f"edge/{self.edge}", event)

    def refused(self) -> Recorded:
        id_, count = self.requested(), self.rng.randrange(1, 90)
        reason = self.rng.choice(("budget_exceeded", "rate_limited", "key_revoked"))
        event = e.RequestRefused(
            count=count, edge=self.edge, key_id=self.key, reason=reason, request_id=id_, tenant=self.tenant
        )
        return self.recorded(f"{id_}.refused", f"edge/{self.edge}", event)

    def abandoned(self) -> Recorded:
        id_ = self.requested()
        event = e.RequestAbandoned(key_id=self.key, request_id=id_, tenant=self.tenant)
        return self.recorded(f"{id_}.abandoned", f"budget/{self.owner}", event)

    def fenced(self) -> Recorded:
        event = e.PartitionFenced(epoch=self.epoch, owner=self.owner, partition=self.partition)
        return self.recorded(f"p{self.partition}.{self.epoch}", f"budget/{self.owner}", event)

    def key_created(self) -> Recorded:
        event = e.KeyCreated(
            by=self.by,
            digest=self.rng.randbytes(32).hex(),
            expires_at=None,
            key_id=self.key,
            limits=self.limits,
            max_output_tokens=None,
            models=None,
            name=self.encrypted(),
            revision=1,
            secret_version=1,
            tenant=self.tenant,
        )
        return self.recorded(f"key:{self.key}.1", "keys", event)

    def tenant_created(self) -> Recorded:
        event = e.TenantCreated(
            by=self.by,
            limits=self.limits,
            name=self.encrypted(),
            partition=self.partition,
            plan="default",
            revision=1,
            secret_version=1,
            tenant=self.tenant,
        )
        return self.recorded(f"tenant:{self.tenant}.1", "keys", event)

    def price_set(self) -> Recorded:
        event = e.PriceSet(
            by=self.by,
            context_tokens=self.rng.choice((None, 128_000)),
            max_output_tokens=self.rng.choice((None, 16_384)),
            model=self.model,
            price_id=self.price_id,
            prices=self.prices,
            provider=self.provider,
            source="operator",
        )
        return self.recorded(f"price:{self.provider}/{self.model}.1", "keys", event)


KINDS: Final[tuple[Callable[[Traffic], Recorded], ...]] = (
    *(Traffic.admitted,) * 8,
    *(Traffic.completed,) * 8,
    Traffic.cancelled,
    Traffic.refused,
    Traffic.abandoned,
    Traffic.fenced,
    Traffic.key_created,
    Traffic.tenant_created,
    Traffic.price_set,
)
"""In the shares that a log has: nearly all of it is admissions and completions."""


def samples() -> list[bytes]:
    """Frames of one event, each of another key: what a frame of many repeats is found in the frame itself."""
    return [frame.encode([KINDS[number % len(KINDS)](Traffic(SEED + number))]) for number in range(SAMPLES)]


def main() -> None:
    """Trains on the samples and writes the dictionary, with its version as its id: one byte in each frame."""
    version, path = int(sys.argv[1]), Path(sys.argv[2])
    trained = zstd.train_dict(samples(), DICTIONARY_BYTES).dict_content
    path.write_bytes(trained[:4] + struct.pack("<I", version) + trained[8:])


if __name__ == "__main__":
    main()
