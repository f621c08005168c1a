"""The tables and views in ClickHouse. Evidence is append-only; analytics may be replaced, and is derived from it.

`records` is a plain MergeTree: ReplacingMergeTree would let an insert overwrite evidence. ClickHouse computes its
columns of numbers from the header when a row is inserted. They may be altered afterwards: no answer of ours is taken
from them unchecked, and a rebuild compares them with the header. A row that was inserted twice is the same row; readers
collapse it (LIMIT 1 BY seq). No partitions: one INSERT is one part.
"""

from typing import Final, NamedTuple

RECORDS: Final = "records"
REQUESTS: Final = "requests"
TABLES: Final = (RECORDS, REQUESTS)

RECORD_COLUMNS: Final = ("chain", "tenant", "key_id", "header", "hash", "mac", "body")
"""What is inserted; ClickHouse computes the other columns from `header`."""

_DURABLE: Final = (
    "fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, merge_selector_base = 20"
)
"""Synced to disk before an INSERT is answered; and merges of more parts, so that a row is rewritten half as often."""


def _number(offset: int, type_: str, bytes_: int) -> str:
    return f"byteSwap(reinterpretAs{type_}(substring(header, {offset + 1}, {bytes_})))"


_DERIVED: Final = (
    ("type", "UInt16", _number(6, "UInt16", 2)),
    ("seq", "UInt64", _number(40, "UInt64", 8)),
    ("key_version", "UInt32", _number(48, "UInt32", 4)),
    ("partition", "UInt32", _number(52, "UInt32", 4)),
    ("generation", "UInt32", _number(56, "UInt32", 4)),
    ("sequence", "UInt64", _number(60, "UInt64", 8)),
    ("frame_index", "UInt32", _number(68, "UInt32", 4)),
    (
        "time",
        "DateTime64(6, 'UTC')",
        f"fromUnixTimestamp64Micro(intDiv({_number(72, 'Int64', 8)}, 1000), 'UTC')",
    ),
    (
        "request_id",
        "UUID",
        "reinterpretAsUUID(concat(reverse(substring(header, 81, 8)), reverse(substring(header, 89, 8))))",
    ),
    ("amount_nusd", "Int64", _number(96, "Int64", 8)),
    ("settled_nusd", "Int64", _number(104, "Int64", 8)),
    ("reserved_nusd", "Int64", _number(112, "Int64", 8)),
)


class Column(NamedTuple):
    """A column as `DESCRIBE TABLE` gives it: `default` is what it is computed from, `kind` is then DEFAULT."""

    name: str
    type: str
    kind: str = ""
    default: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, self))


_RECORDS_TABLE: Final = (
    Column("chain", "String"),
    Column("tenant", "LowCardinality(String)"),
    Column("key_id", "String"),
    *(Column(name, type_, "DEFAULT", expression) for name, type_, expression in _DERIVED),
    Column("header", "FixedString(184)"),
    Column("hash", "FixedString(32)"),
    Column("mac", "FixedString(32)"),
    Column("body", "String"),
)


def _records_table(name: str) -> str:
    return f"""
CREATE TABLE IF NOT EXISTS {name} (
    {", ".join(map(str, _RECORDS_TABLE))}
) ENGINE = MergeTree ORDER BY (chain, seq) SETTINGS {_DURABLE}
"""


REQUEST_COLUMNS: Final = (
    ("tenant", "LowCardinality(String)"),
    ("key_id", "String"),
    ("request_id", "String"),
    ("provider", "LowCardinality(String)"),
    ("model", "LowCardinality(String)"),
    ("endpoint", "LowCardinality(String)"),
    ("edge", "LowCardinality(String)"),
    ("terminal", "LowCardinality(String)"),
    ("outcome", "LowCardinality(String)"),
    ("usage_source", "LowCardinality(String)"),
    ("admitted_at", "DateTime64(6, 'UTC')"),
    ("ended_at", "DateTime64(6, 'UTC')"),
    ("status", "UInt16"),
    ("attempts", "UInt16"),
    ("first_byte_ms", "UInt32"),
    ("duration_ms", "UInt32"),
    ("input_tokens", "Int64"),
    ("cache_read_tokens", "Int64"),
    ("cache_write_tokens", "Int64"),
    ("cache_write_1h_tokens", "Int64"),
    ("input_audio_tokens", "Int64"),
    ("output_tokens", "Int64"),
    ("reasoning_tokens", "Int64"),
    ("output_audio_tokens", "Int64"),
    ("reserved_tokens", "Int64"),
    ("settled_tokens", "Int64"),
    ("reserved_nusd", "Int64"),
    ("settled_nusd", "Int64"),
    ("reported_cost_nusd", "Int64"),
    ("partition", "UInt32"),
    ("generation", "UInt32"),
    ("sequence", "UInt64"),
    ("frame_index", "UInt32"),
    ("admission", "UInt64"),
    ("version", "UInt64"),
)
"""In the order in which `rows` encodes them. `admission` is the seq of the record of the admission, which tells two
requests of one id apart, `version` that of the record of the end. A cost that no provider reported is -1; times are the
writers' own."""


def _requests_table(name: str) -> str:
    return f"""
CREATE TABLE IF NOT EXISTS {name} (
    {", ".join(f"{column} {type_}" for column, type_ in REQUEST_COLUMNS)}
) ENGINE = ReplacingMergeTree(version) ORDER BY (tenant, key_id, request_id, admission) SETTINGS {_DURABLE}
"""


FROM_HEADER: Final = {column: expression for column, _, expression in _DERIVED}
"""By column of `records` what ClickHouse computes it from, where it is computed."""

COUNTED: Final = "countIf(terminal != 'cancelled')"
"""A cancelled request was never made, so it does not count, as for every limit."""


def _bytes_of(*numbers: str) -> str:
    return ", ".join(f"reinterpretAsFixedString({number})" for number in numbers)


def _lengths(one: str, other: str) -> str:
    """Return the expression of two lengths of 32 bits in one number, which costs half of two."""
    return f"length({one}) + bitShiftLeft(length({other}), 32)"


_ENCODED: Final = ", ".join(
    (
        _bytes_of("toUnixTimestamp64Micro(admitted_at)", "admission", "settled_nusd", "settled_tokens"),
        _bytes_of("toUInt32(length(request_id))", _lengths("provider", "model"), _lengths("endpoint", "edge")),
        "request_id, provider, model, endpoint, edge, terminal",
    )
)
DIGEST: Final = f"sum(reinterpretAsUInt128(substring(SHA256(concat({_ENCODED})), 1, 16)))"
"""The digest of rows, as `core.row_digest` defines it; a sum of UInt128 is one modulo 2**128. Measured per 1,000,000
rows: 0.45 s of a core beside the 0.4 s of the other sums (MD5: 0.25 s; sipHash128, which Python does not have,
1.4 s)."""


def start_of(unit: str) -> str:
    """Return the expression of the hour or day in which a request was admitted, in UTC, of any year.

    `toStartOfHour` holds 32 bits of seconds, 1970 to 2106; `dateTrunc` takes the last second of an hour before 1970 for
    the next one. No slower than they are (3,000,000 rows: 0.05 s of a core each).
    """
    us = {"hour": 3_600_000_000, "day": 86_400_000_000}[unit]
    at = "toUnixTimestamp64Micro(admitted_at)"
    return f"fromUnixTimestamp64Micro({at} - positiveModulo({at}, {us}), 'UTC')"


def _rollup(name: str, unit: str) -> str:
    return f"""
CREATE OR REPLACE VIEW {name} AS
SELECT {start_of(unit)} AS period, tenant, key_id, provider, model,
    {COUNTED} AS requests,
    sum(settled_nusd) AS settled_nusd, sum(settled_tokens) AS settled_tokens
FROM {REQUESTS} FINAL GROUP BY period, tenant, key_id, provider, model
"""  # noqa: S608  # our own names


def create(suffix: str = "") -> tuple[str, str]:
    """Return the statements that create both tables under their names and this suffix."""
    return _records_table(RECORDS + suffix), _requests_table(REQUESTS + suffix)


CREATE_VIEWS: Final = {name: _rollup(name, unit) for name, unit in (("spend_hourly", "hour"), ("spend_daily", "day"))}
"""By view the statement that creates it, whatever has its name."""

DEFINITIONS: Final = {
    RECORDS: [*_RECORDS_TABLE],
    REQUESTS: [Column(name, type_) for name, type_ in REQUEST_COLUMNS],
}
"""The columns that each table of this version has. Another time zone or default would make the same rows say something
else. Written as a server writes them, whose formatter leaves them as they are."""

COLUMNS: Final = {table: [column.name for column in columns] for table, columns in DEFINITIONS.items()}
"""Their names."""

_COPIES: Final = ("", "Replicated", "Shared")
"""Before the engine's name: how a cluster keeps copies."""
ENGINES: Final = {
    RECORDS: frozenset(f"{copies}MergeTree" for copies in _COPIES),
    REQUESTS: frozenset(f"{copies}ReplacingMergeTree" for copies in _COPIES),
}
"""The engines that each table may have. A view, or a table that forgets, is none of ours."""
