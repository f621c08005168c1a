"""Reads a whole JSON answer: what it reports to have used."""

import json

import msgspec

from keyforge.contracts.unreadable import UNREADABLE
from keyforge.edge.core.dialects.base import MeteredAnswer
from keyforge.edge.core.dialects.openai_chat.usage import (
    UsageFields,
    read_cost_nusd,
    read_usage,
    to_cost_nusd,
    to_usage,
)


class _Body(msgspec.Struct):
    usage: UsageFields | None = None


_body = msgspec.json.Decoder(_Body)


def read_answer(body: bytes, *, embeddings: bool = False) -> MeteredAnswer | None:
    """Read a JSON answer to a chat completion or to embeddings. None if it is not a JSON object at all."""
    try:
        usage = _body.decode(body).usage
    except UNREADABLE:
        return _read_lenient(body, embeddings=embeddings)
    if usage is None:
        return MeteredAnswer()
    return MeteredAnswer(to_usage(usage, embeddings=embeddings), to_cost_nusd(usage.cost))


def _read_lenient(body: bytes, *, embeddings: bool) -> MeteredAnswer | None:
    """Read what the strict decoder refuses and clients accept: half of a surrogate pair, a usage without sense."""
    try:
        whole = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(whole, dict):
        return None
    usage = whole.get("usage")
    return MeteredAnswer(read_usage(usage, embeddings=embeddings), read_cost_nusd(usage))
