"""What an edge requests of a partition's owner, and the answer: msgpack arrays on the bus, never in the log."""

from typing import Final, Literal

import msgspec

from keyforge.contracts.ids import EdgeId, KeyId, ModelName, PriceId, ProviderId, RequestId, TenantId
from keyforge.contracts.unreadable import UNREADABLE
from keyforge.contracts.usage import UnitPrices
from keyforge.contracts.words import Word

RESERVES_MAX: Final = 500
"""Reserves in one message. Chosen: at 600 bytes each, more than twice what one takes (measured: 220), they are 300 KB,
a third of the 1 MiB that NATS accepts by default (`max_payload`)."""
TTL_MS_MAX: Final = 3_600_000
"""The longest time to live of a reservation. Chosen: an hour, the most that an edge's KEYFORGE_REQUEST_TIME_LIMIT_S may
be; OpenAI's SDKs give up after 10 minutes by default."""


class Reserve(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A request for an admission: its worst case is to be reserved. `ttl_ms` runs from the admission."""

    request_id: RequestId
    tenant: TenantId
    key_id: KeyId
    policy_revision: int
    endpoint: Word
    provider: ProviderId
    model: ModelName
    price_id: PriceId
    prices: UnitPrices
    worst_nusd: int
    worst_tokens: int
    ttl_ms: int
    body_commitment: str
    idempotency_hash: str | None
    secret_version: int


class Reserves(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """All reserves that waited at one edge for one partition."""

    edge: EdgeId
    asks: list[Reserve]


class Answer(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The verdict on one Reserve, in the order asked. A refusal carries a type of `errors.CATALOGUE`.

    An allow carries the position of the admission. The `sequence` of a refusal is that of the last message that it was
    decided on, 0 where the ledger was not read. `scope`, `unit` and `window` name the first limit that does not fit;
    `first_request` and `first_state` describe the request that holds the same Idempotency-Key. `again`: it was not
    decided, since its owner gives way to another, who is to be asked.
    """

    verdict: Literal["allow", "refuse"]
    type: str = ""
    sequence: int = 0
    index: int = 0
    scope: str = ""
    unit: str = ""
    window: str = ""
    retry_after_s: int = 0
    first_request: str = ""
    first_state: str = ""
    again: bool = False


_ENCODER: Final = msgspec.msgpack.Encoder()
_RESERVES: Final = msgspec.msgpack.Decoder(Reserves)
_ANSWERS: Final = msgspec.msgpack.Decoder(list[Answer])


def encode_reserves(reserves: Reserves) -> bytes:
    """Return a message of reserves."""
    return _ENCODER.encode(reserves)


def decode_reserves(data: bytes) -> Reserves:
    """Return the reserves of a message. Raises msgspec.MsgspecError."""
    try:
        return _RESERVES.decode(data)
    except UNREADABLE as error:
        raise msgspec.DecodeError(str(error)) from None


def encode_answers(answers: list[Answer]) -> bytes:
    """Return the message with the answers to one message of reserves, in its order."""
    return _ENCODER.encode(answers)


def decode_answers(data: bytes) -> list[Answer]:
    """Return the answers of a message. Raises msgspec.MsgspecError."""
    try:
        return _ANSWERS.decode(data)
    except UNREADABLE as error:
        raise msgspec.DecodeError(str(error)) from None
