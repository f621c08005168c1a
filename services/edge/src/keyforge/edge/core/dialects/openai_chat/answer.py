"""Reads a whole JSON answer: what it reports to have used, and whether it may be an error."""

import json
from typing import Any, Final

import msgspec

from keyforge.contracts.unreadable import UNREADABLE
from keyforge.edge.core.dialects import usage_table
from keyforge.edge.core.dialects.base import MeteredAnswer
from keyforge.edge.core.dialects.openai_chat.chunk import has_text
from keyforge.edge.core.dialects.openai_chat.usage import read_cost_nusd, read_usage
from keyforge.edge.core.pricing.workload import Workload


class _Body(msgspec.Struct):
    usage: dict[str, Any] | None = None
    choices: list[msgspec.Raw] | None = None
    data: list[msgspec.Raw] | None = None


_body = msgspec.json.Decoder(_Body)
_raw = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_ERROR: Final = b'"error'
"""In every error that stands beside choices, and in few answers: these are looked at closely."""
_EMPTY: Final = frozenset((b"null", b"[]"))
"""Of `data`: no embeddings."""


def read_chat(body: bytes, workload: Workload) -> MeteredAnswer | None:
    """Read a JSON answer to a chat completion. None if it is not a JSON object at all."""
    return read_answer(body, embeddings=False, hour=workload.cache_1h)


def read_embeddings(body: bytes, _: Workload) -> MeteredAnswer | None:
    """Read a JSON answer to a request for embeddings. None if it is not a JSON object at all."""
    return read_answer(body, embeddings=True, hour=False)


def read_answer(body: bytes, *, embeddings: bool = False, hour: bool = False) -> MeteredAnswer | None:
    """Read a JSON answer. `hour`: see `usage_table.read`."""
    try:
        read = _body.decode(body)
    except UNREADABLE:
        return _read_whole(body, embeddings=embeddings, hour=hour)
    found = None if read.usage is None else read_usage(read.usage, embeddings=embeddings, hour=hour)
    if found is None or not (found.output_tokens or embeddings):  # the usual one has both
        return _read_whole(body, embeddings=embeddings, hour=hour)
    written = bool(read.choices or read.data)
    return MeteredAnswer(found, read_cost_nusd(read.usage), written, suspicious=not written or _ERROR in body)


def _read_whole(body: bytes, *, embeddings: bool, hour: bool) -> MeteredAnswer | None:
    """Look for a usage in every place."""
    whole = _places_of(body)
    if whole is None:
        return None
    usage = usage_table.reported(whole, embeddings=embeddings, hour=hour)
    written = bool(whole.get("choices") or whole.get("data"))
    unclear = usage is None and not all(map(usage_table.is_blank, usage_table.places(whole)))
    if usage is not None and not embeddings and not usage_table.made(usage) and _has_text(whole.get("choices")):
        usage = None
    suspicious = not written or _ERROR in body
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
