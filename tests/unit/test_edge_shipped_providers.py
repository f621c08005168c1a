"""For each provider that is shipped: the errors, headers and usage blocks that it documents, through the one reader."""

import pytest

from keyforge.contracts.usage import Usage
from keyforge.edge.core.dialects.failure import MAY_BILL
from keyforge.edge.core.dialects.openai_chat.answer import read_chat, read_embeddings
from keyforge.edge.core.dialects.openai_chat.stream import StreamMeter
from keyforge.edge.core.pricing.workload import Workload
from keyforge.keys.core.presets import PRESETS
from tests.unit.provider_rows import Row, failure, name_of, openrouter
from tests.unit.shipped_errors import ERRORS, STATUSES
from tests.unit.shipped_headers import HEADERS, NAMES
from tests.unit.shipped_usage import NO_EMBEDDINGS, USAGES, UsageRow

ALIASES = {"google": "gemini"}
"""Another name of a kind, whose rows stand under the one here."""
UNBILLED = {
    "google": frozenset((408, 502, 504)),
    "gemini": frozenset((408, 502, 504)),
    "openrouter": frozenset((408, 502, 504, 524)),
}
"""Which statuses of a gateway cost nothing, at those that document it; `quirks.py` quotes them."""
OURS = frozenset((b"x-keyforge-error", b"x-should-retry", b"retry-after"))


@pytest.mark.parametrize("kind", PRESETS)
def test_every_provider_that_is_shipped_has_rows_of_each_kind(kind: str) -> None:
    assert PRESETS[kind] == PRESETS[ALIASES.get(kind, kind)]
    kind = ALIASES.get(kind, kind)
    heads = {row.head for row in ERRORS if row.kind == kind}
    assert STATUSES[kind] <= heads, "a status that it documents"
    named = {name for row in HEADERS if row.kind == kind for name in row.headers}
    assert named >= NAMES[kind] > frozenset(), "a header that it documents"
    forms = {row.form for row in USAGES if row.kind == kind}
    assert forms == {"whole", "stream", "embeddings"} - ({"embeddings"} if kind in NO_EMBEDDINGS else set())


def test_no_row_is_of_a_provider_that_is_not_shipped() -> None:
    rows = {row.kind for rows in (ERRORS, HEADERS, USAGES) for row in rows}
    assert rows | ALIASES.keys() == PRESETS.keys() == STATUSES.keys() | ALIASES.keys() == NAMES.keys() | ALIASES.keys()


@pytest.mark.parametrize("row", [row for row in (*ERRORS, *HEADERS) if row.kind in ALIASES.values()], ids=name_of)
def test_another_name_of_a_kind_changes_nothing(row: Row) -> None:
    for name, kind in ALIASES.items():
        if kind == row.kind:
            assert failure(row, name) == failure(row)


@pytest.mark.parametrize("row", HEADERS, ids=name_of)
def test_an_agent_gets_no_header_of_a_provider(row: Row) -> None:
    assert {name for name, _ in failure(row).headers()} <= OURS


@pytest.mark.parametrize("kind", PRESETS)
@pytest.mark.parametrize("status", sorted(MAY_BILL))
def test_what_a_gateway_gave_up_on_costs_the_bound_unless_the_provider_says_otherwise(kind: str, status: int) -> None:
    told = Row(kind, status, openrouter(status, "down"), status, "provider", "")
    assert failure(told).billed is (status not in UNBILLED.get(kind, ()))
    assert failure(told, written=True).billed, "the model wrote something"
    for page in ("<html>timed out</html>", "", "upstream connect error", {"title": "Error 524", "status": 524}):
        assert failure(told._replace(body=page)).billed, "a proxy in front of it says so, which does not bill"


@pytest.mark.parametrize("row", USAGES, ids=lambda row: f"{row.kind}-{row.form}")
def test_a_usage_block_is_read_in_its_place(row: UsageRow) -> None:
    assert row.source
    assert row.usage.tokens == row.billed
    if row.form == "stream":
        assert streamed(row.sent) == (row.usage, row.cost_nusd)
        for cut in (1, len(row.sent) // 2, len(row.sent) - 1):
            assert streamed(row.sent[:cut], row.sent[cut:]) == (row.usage, row.cost_nusd)
        return
    found = (read_embeddings if row.form == "embeddings" else read_chat)(row.sent, Workload())
    assert found is not None
    assert (found.usage, found.reported_cost_nusd, found.written) == (row.usage, row.cost_nusd, True)


def streamed(*pieces: bytes) -> tuple[Usage | None, int | None]:
    meter = StreamMeter(keep_usage=True)
    for piece in pieces:
        meter.feed(piece)
    meter.end()
    assert meter.done
    assert meter.failure is None
    return meter.usage, meter.reported_cost_nusd
