"""Reads a whole JSON answer: what it reports to have used."""

import json
from typing import Final

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
    choices: list[msgspec.Raw] | None = None
    data: list[msgspec.Raw] | None = None


_body = msgspec.json.Decoder(_Body)
_ERROR: Final = b'"error'
"""In every error that stands beside choices, and in few answers: these are looked at closely."""


def read_answer(body: bytes, *, embeddings: bool = False) -> MeteredAnswer | None:
    """Read a JSON answer to a chat completion or to embeddings. None if it is not a JSON object at all."""
    try:
        read = _body.decode(body)
    except UNREADABLE:
        return _read_lenient(body, embeddings=embeddings)
    written = bool(read.choices or read.data)
    suspicious = not written or _ERROR in body
    if read.usage is None:
        return MeteredAnswer(written=written, suspicious=suspicious)
    usage, cost_nusd = to_usage(read.usage, embeddings=embeddings), to_cost_nusd(read.usage.cost)
    return MeteredAnswer(usage, cost_nusd, written, suspicious)


def _read_lenient(body: bytes, *, embeddings: bool) -> MeteredAnswer | None:
    """Read what the strict decoder refuses and clients accept: half of a surrogate pair, a usage without sense."""
    try:
        whole = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(whole, dict):
        return None
    usage, written = whole.get("usage"), bool(whole.get("choices") or whole.get("data"))
    read = read_usage(usage, embeddings=embeddings)
    return MeteredAnswer(read, read_cost_nusd(usage), written, suspicious=True)
