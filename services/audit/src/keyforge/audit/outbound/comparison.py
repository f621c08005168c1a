"""Compares the current tables with those that a rebuild built beside them: every column of every row of the evidence,
and of the analytics sums per key, day and model.

The evidence is compared in ranges of (chain, seq), so that neither side is ever in memory whole (measured: 7 us a
record). Blocking: call it from a thread.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from keyforge.audit.application.ports import TableDifference
from keyforge.audit.outbound import schema
from keyforge.audit.outbound.clients import Clients
from keyforge.audit.outbound.tables import BESIDE
from keyforge.chain.seal import key_chain

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

RANGE_RECORDS: Final = 20_000
"""Records that are compared at a time. Chosen: 22 MB a side at 1.1 KB a record (measured)."""

_ALL: Final = ", ".join(schema.COLUMNS[schema.RECORDS])
_ROW: Final = ", ".join(schema.COLUMNS[schema.REQUESTS])
WITHIN: Final = (
    "(chain > {c1:String} OR (chain = {c1:String} AND seq > {s1:UInt64}))"
    " AND (chain < {c2:String} OR (chain = {c2:String} AND seq <= {s2:UInt64}) OR {last:UInt8})"
)
"""The condition of one range; its parameters are `parameters_of`."""
_SUMS: Final = (
    ("rows", "count()"),
    ("requests", schema.COUNTED),
    ("settled_nusd", "sum(toInt128(settled_nusd))"),
    ("tokens", "sum(toInt128(settled_tokens))"),
    ("columns", f"sum(cityHash64({_ROW}))"),
)
"""What is compared of each key, day and model. The sum of hashes shows that any other column differs."""


class Comparison:
    """Compares two sets of tables."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    def records(
        self, upto: Mapping[int, int], *, beyond: bool, limit: int, stopped: Callable[[], bool]
    ) -> list[TableDifference]:
        """Return the first `limit` records that differ, in order of chain and seq. Raises StoreError.

        It compares the records of each log up to a message of it, or with `beyond` those after it, and stops early when
        `stopped` says so.
        """
        part = " OR ".join(f"(partition = {int(log)} AND sequence <= {int(end)})" for log, end in upto.items()) or "0"
        part = f"NOT ({part})" if beyond else f"({part})"
        found: list[TableDifference] = []
        with self._clients.lend() as client:
            ends = [*ranges(client, part), None]
            begin = ("", 0)
            for end in ends:
                if stopped() or len(found) >= limit:
                    break
                found += self._range(client, part, begin, end, limit - len(found))
                begin = end or begin
        return found

    def requests(self, limit: int) -> list[TableDifference]:
        """Return the first `limit` keys, days and models whose sums differ, in order. Raises StoreError."""
        sums = ", ".join(f"{sum_} AS sum_{name}" for name, sum_ in _SUMS)
        by = "tenant, key_id, toDate32(admitted_at, 'UTC') AS day, model"
        names = ", ".join(f"sum_{name}" for name, _ in _SUMS)
        sides = " UNION ALL ".join(
            f"SELECT {side} AS side, {by}, {sums} FROM {table} FINAL GROUP BY {by}"  # noqa: S608  # our own names
            for side, table in enumerate((schema.REQUESTS, schema.REQUESTS + BESIDE))
        )
        query = (
            f"SELECT tenant, key_id, toString(day), model, groupArray((side, {names})) AS sides FROM ({sides})"  # noqa: S608
            f" GROUP BY tenant, key_id, day, model HAVING count() != 2 OR uniqExact(({names})) != 1"
            f" ORDER BY tenant, key_id, day, model LIMIT {int(limit)}"
        )
        with self._clients.lend() as client:
            rows = client.query(query).result_rows
            return [
                TableDifference(
                    schema.REQUESTS,
                    None,
                    key_chain(tenant, key),
                    self._first_request(client, tenant, key),
                    f"{day}, {model}: {_sums_differ(sides)}",
                )
                for tenant, key, day, model, sides in rows
            ]

    @staticmethod
    def _range(
        client: "Client", part: str, begin: tuple[str, int], end: tuple[str, int] | None, limit: int
    ) -> list[TableDifference]:
        old, new = (
            f"(SELECT DISTINCT chain, seq, partition, tuple({_ALL}) AS row, 1 AS stored"  # noqa: S608  # our own names
            f" FROM {table} WHERE {part} AND {WITHIN})"
            for table in (schema.RECORDS, schema.RECORDS + BESIDE)
        )
        query = (
            "SELECT if(n.stored = 1, n.chain, o.chain) AS c, if(n.stored = 1, n.seq, o.seq) AS s,"  # noqa: S608
            " if(n.stored = 1, n.partition, o.partition), o.stored, n.stored"
            f" FROM {old} AS o FULL OUTER JOIN {new} AS n ON o.chain = n.chain AND o.seq = n.seq"
            " WHERE o.stored != n.stored OR o.row != n.row ORDER BY c, s LIMIT {limit:UInt32}"
        )
        parameters = parameters_of(begin, end) | {"limit": limit}
        whys = {(0, 1): "missing", (1, 0): "surplus", (1, 1): "altered"}
        return [
            TableDifference(schema.RECORDS, int(row[2]), row[0], int(row[1]), whys[int(row[3]), int(row[4])])
            for row in client.query(query, parameters).result_rows
        ]

    @staticmethod
    def _first_request(client: "Client", tenant: str, key: str) -> int | None:
        """Return the seq of the admission of a key's first request that differs; None if rows are only repeated."""
        of_key = "FINAL WHERE tenant = {tenant:String} AND key_id = {key:String}"
        old, new = (
            f"SELECT {_ROW} FROM {table} {of_key}"  # noqa: S608  # our own names
            for table in (schema.REQUESTS, schema.REQUESTS + BESIDE)
        )
        either = f"({old} EXCEPT {new}) UNION ALL ({new} EXCEPT {old})"
        query = f"SELECT count(), min(admission) FROM ({either})"  # noqa: S608  # our own names
        count, first = client.query(query, {"tenant": tenant, "key": key}).result_rows[0]
        return int(first) if count else None


def ranges(client: "Client", part: str) -> list[tuple[str, int]]:
    """Return where ranges of the new evidence end: chain and seq of every RANGE_RECORDS-th record of a part of it."""
    numbered = (
        "SELECT chain, seq, rowNumberInAllBlocks() AS number"  # noqa: S608  # our own names
        f" FROM (SELECT chain, seq FROM {schema.RECORDS}{BESIDE} WHERE {part} ORDER BY chain, seq)"
    )
    query = f"SELECT chain, seq FROM ({numbered}) WHERE number % {RANGE_RECORDS} = {RANGE_RECORDS - 1}"  # noqa: S608
    return [(row[0], int(row[1])) for row in client.query(query, settings={"max_threads": 1}).result_rows]


def parameters_of(begin: tuple[str, int], end: tuple[str, int] | None) -> dict[str, str | int]:
    """Return the parameters of WITHIN: after chain and seq `begin`, up to `end`, or to the last one if that is None."""
    upto = end or ("", 0)
    return {"c1": begin[0], "s1": begin[1], "c2": upto[0], "s2": upto[1], "last": int(end is None)}


def _sums_differ(sides: list[tuple[int, ...]]) -> str:
    """Return which sums differ. `sides`: 0 for the old table or 1 for the new one, then the sums."""
    nothing = (0,) * len(_SUMS)
    by_side: Mapping[int, tuple[int, ...]] = {one[0]: tuple(one[1:]) for one in sides}
    old, new = by_side.get(0, nothing), by_side.get(1, nothing)
    found = [
        f"{name} {was}, in the log {is_}"
        for (name, _), was, is_ in zip(_SUMS, old, new, strict=True)
        if was != is_ and name != "columns"
    ]
    return "; ".join(found) or "other columns are altered"
