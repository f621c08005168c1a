"""Reads a whole JSON answer: what it reports to have used."""

import json
from typing import Any

import msgspec

from keyforge.contracts.unreadable import UNREADABLE
from keyforge.edge.core.dialects import usage_table
from keyforge.edge.core.dialects.base import MeteredAnswer
from keyforge.edge.core.dialects.openai_chat.usage import read_cost_nusd, read_usage
from keyforge.edge.core.pricing.workload import Workload


class _Body(msgspec.Struct):
    usage: dict[str, Any] | None = None


_body = msgspec.json.Decoder(_Body)


def read_chat(body: bytes, workload: Workload) -> MeteredAnswer | None:
    """Read a JSON answer to a chat completion. None if it is not a JSON object at all."""
    return _read(body, embeddings=False, hour=workload.cache_1h)


def read_embeddings(body: bytes, _: Workload) -> MeteredAnswer | None:
    """Read a JSON answer to a request for embeddings. None if it is not a JSON object at all."""
    return _read(body, embeddings=True, hour=False)


def _read(body: bytes, *, embeddings: bool, hour: bool) -> MeteredAnswer | None:
    try:
        usage = _body.decode(body).usage
    except UNREADABLE:
        return _read_whole(body, embeddings=embeddings, hour=hour)
    found = None if usage is None else read_usage(usage, embeddings=embeddings, hour=hour)
    if found is None:
        return _read_whole(body, embeddings=embeddings, hour=hour)
    return MeteredAnswer(found, read_cost_nusd(usage))


def _read_whole(body: bytes, *, embeddings: bool, hour: bool) -> MeteredAnswer | None:
    """Look for a usage in every place. Also reads what the strict decoder refuses and clients accept: half of a
    surrogate pair."""
    try:
        whole = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(whole, dict):
        return None
    usage = usage_table.reported(whole, embeddings=embeddings, hour=hour)
    return MeteredAnswer(usage, read_cost_nusd(whole.get("usage")))
