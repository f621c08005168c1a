"""Every recorded answer with a usage, of any API: what we settle is what the provider counted, and never less.

The provider's own count is made in `recorded_usage.py` from its names alone, one short rule for each API.
KEYFORGE_RECORDINGS names the folder; a checkout without it skips this, and says so.
"""

import gzip
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from keyforge.contracts.usage import Usage
from keyforge.edge.core.dialects import usage_table
from keyforge.edge.core.dialects.openai_chat.answer import read_chat, read_embeddings
from keyforge.edge.core.dialects.openai_chat.stream import StreamMeter
from keyforge.edge.core.dialects.openai_chat.usage import read_usage
from keyforge.edge.core.pricing.workload import Workload
from keyforge.testkit.recordings import FOLDER_VARIABLE, Recording, load
from tests.unit.recorded_usage import PRICES, billed, documents

FOLDER = os.environ.get(FOLDER_VARIABLE, "")

pytestmark = pytest.mark.skipif(not FOLDER, reason=f"{FOLDER_VARIABLE} names no folder of recordings")


def answers() -> Iterator[tuple[str, bool, list[Any]]]:
    """Yield the provider, whether it is of embeddings, and the answer: whole, or the events of its stream."""
    for file in sorted(Path(FOLDER).glob("*.jsonl.gz")):
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            for line in lines:
                one = json.loads(line)
                if one["status"] == 200:
                    yield file.name.partition(".")[0], "embed" in one["path"], documents(one["response"])


def test_nothing_is_undercharged_and_what_is_settled_is_what_is_billed() -> None:
    compared: Counter[str] = Counter()
    for provider, embeddings, found in answers():
        known, owed = None, None
        for document in found:
            if not isinstance(document, dict):
                continue
            for fields in usage_table.places(document):
                assert isinstance(fields, dict)
                owed = billed(fields) or owed
                if not embeddings:
                    assert read_usage(fields) == usage_table.read(fields)
            known = usage_table.reported(document, known, embeddings=embeddings)
        assert (known is None) == (owed is None), (provider, found[-1])
        if known is not None:
            assert owed is not None
            assert PRICES.cost_nusd(known) == owed, (provider, known)
            compared[provider] += 1
    assert len(compared) >= 10
    assert compared.total() > 900, compared


@pytest.mark.parametrize("piece_bytes", [1_000_000, 700])
def test_what_settles_a_chat_reads_the_same_of_every_answer_and_stream(piece_bytes: int) -> None:
    compared: Counter[str] = Counter()
    for provider, one in load(Path(FOLDER)):
        owed = None
        for document in documents(one.response):
            for fields in usage_table.places(document):
                assert isinstance(fields, dict)
                owed = billed(fields) or owed
        used = settled_by(one, piece_bytes)
        assert (used is None) == (owed is None), (provider, one.id)
        if used is not None:
            assert PRICES.cost_nusd(used) == owed, (provider, one.id, used)
            compared["stream" if one.is_stream else "whole"] += 1
    assert compared["whole"] > 200, compared
    assert compared["stream"] > 30, compared


def settled_by(one: Recording, piece_bytes: int) -> Usage | None:
    """Return what the reader of its form makes of an answer."""
    if not one.is_stream:
        found = (read_embeddings if one.path.endswith("/embeddings") else read_chat)(one.body, Workload())
        return None if found is None else found.usage
    meter = StreamMeter(keep_usage=False)
    for at in range(0, len(one.body), piece_bytes):
        meter.feed(one.body[at : at + piece_bytes])
    meter.end()
    return meter.usage
