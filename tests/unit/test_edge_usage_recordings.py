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

from keyforge.edge.core.dialects import usage_table
from keyforge.edge.core.dialects.openai_chat.usage import read_usage
from keyforge.testkit.recordings import FOLDER_VARIABLE
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
