"""Reads a whole JSON answer: what it reports to have used, and whether it may be an error."""

import json
from typing import Any, Final

import msgspec

from keyforge.contracts.unreadable import UNREADABLE
from keyforge.edge.core.dialects import usage_table
from keyforge.edge.core.dialects.base import MeteredAnswer
from keyforge.edge.core.dialects.openai_chat.chunk import has_text
from keyforge.edge.core.dialects.openai_chat.usage import (
    EmbeddingsFields,
    UsageFields,
    of_embeddings,
    read_cost_nusd,
    to_cost_nusd,
    usual,
)
from keyforge.edge.core.pricing.workload import Workload


class _Completion(msgspec.Struct):
    usage: UsageFields
    choices: list[msgspec.Raw]


class _Embeddings(msgspec.Struct):
    usage: EmbeddingsFields
    data: list[msgspec.Raw]


_completion = msgspec.json.Decoder(_Completion).decode
_embeddings = msgspec.json.Decoder(_Embeddings).decode
_raw = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_ERROR: Final = b'"error'
"""In every error that stands beside choices, and in few answers: these are looked at closely. `find`, since `in` first
raises and catches a TypeError (CPython 3.11: 0.2 us)."""
_EMPTY: Final = frozenset((b"null", b"[]"))
"""Of `data`: no embeddings."""


def read_chat(body: bytes, workload: Workload) -> MeteredAnswer | None:
    """Read a JSON answer to a chat completion. None if it is not a JSON object at all."""
    if workload.cache_1h:
        return _read_whole(body, embeddings=False, hour=True)
    try:
        read = _completion(body)
    except UNREADABLE:
        return _read_whole(body, embeddings=False, hour=False)
    fields, written = read.usage, bool(read.choices)
    usage = usual(fields)
    if usage is None or not usage.output_tokens:  # the usual one has both
        return _read_whole(body, embeddings=False, hour=False)
    cost_nusd = None if fields.cost is None else to_cost_nusd(fields.cost)
    return MeteredAnswer(usage, cost_nusd, written, not written or body.find(_ERROR) >= 0)


def read_embeddings(body: bytes, _: Workload) -> MeteredAnswer | None:
    """Read a JSON answer to a request for embeddings. None if it is not a JSON object at all."""
    try:
        read = _embeddings(body)
    except UNREADABLE:
        return _read_whole(body, embeddings=True, hour=False)
    usage, written = of_embeddings(read.usage), bool(read.data)
    if usage is None:
        return _read_whole(body, embeddings=True, hour=False)
    return MeteredAnswer(usage, to_cost_nusd(read.usage.cost), written, not written or body.find(_ERROR) >= 0)


def _read_whole(body: bytes, *, embeddings: bool, hour: bool) -> MeteredAnswer | None:
    """Look for a usage in every place, under every name. `hour`: see `usage_table.read`."""
    whole = _places_of(body)
    if whole is None:
        return None
    usage = usage_table.reported(whole, embeddings=embeddings, hour=hour)
    written = bool(whole.get("choices") or whole.get("data"))
    unclear = usage is None and not all(map(usage_table.is_blank, usage_table.places(whole)))
    if usage is not None and not embeddings and not usage_table.made(usage) and _has_text(whole.get("choices")):
        usage = None
    suspicious = not written or body.find(_ERROR) >= 0
    return MeteredAnswer(usage, read_cost_nusd(whole.get("usage")), written, suspicious, unclear)


def _has_text(choices: object) -> bool:
    return isinstance(choices, list) and any(map(has_text, choices))


def _places_of(body: bytes) -> dict[str, Any] | None:
    """Read what of a body can hold a usage: embeddings are megabytes of other things. Also reads what the strict
    decoder refuses and clients accept: half of a surrogate pair. None: it is no JSON object."""
    try:
        raw = _raw(body)
        found = {name: msgspec.json.decode(raw[name]) for name in usage_table.ROOTS if name in raw}
        return found | {"data": bytes(raw["data"]) not in _EMPTY} if "data" in raw else found
    except UNREADABLE:
        pass
    try:
        whole = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return whole if isinstance(whole, dict) else None
