"""Reads and writes the rows of ClickHouse, a server's or those of the engine in this process.

Blocking: call it from a thread. Nothing that is read here is trusted: callers compare it with the fold.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from keyforge.audit.application.ports import SpendBy, Spent
from keyforge.audit.core.evidence import StoredEnd, StoredSpend, stored_end
from keyforge.audit.core.sealed import Head, KeySpend, RequestEnd
from keyforge.audit.outbound import schema
from keyforge.audit.outbound.clients import DATABASE, Clients
from keyforge.chain.seal import MasterKey
from keyforge.chain.verify import Stored

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

_INSERT: Final[dict[str, Any]] = {
    "async_insert": 0,
    "input_format_parallel_parsing": 0,
    "max_threads": 1,
    "max_insert_threads": 1,
    "optimize_on_insert": 0,
}
"""One INSERT is one block and is on disk when it returns. Parallel threads, and replacing rows within a block, cost
more than they gain."""

TIMES: Final = (datetime(1900, 1, 1, tzinfo=UTC), datetime(2299, 12, 31, tzinfo=UTC))
"""The first and last time that ClickHouse and its client both handle."""

_GROUPS: Final[Mapping[SpendBy, str]] = {
    "tenant": "tenant",
    "key": "key_id",
    "provider": "provider",
    "model": "model",
    "endpoint": "endpoint",
    "edge": "edge",
    "hour": schema.start_of("hour"),
    "day": schema.start_of("day"),
}
"""The expression of each group."""

STAND_IN: Final = "~"
"""In names that stand for others; no name of ours contains it."""


def _name(column: str) -> str:
    """Return the expression of a name as it can be compared and shown: printable, and of 300 characters at most.

    Ours are. A made-up one may be neither, nor text at all: what stands for it is what is printable of its beginning,
    and a hash.
    """
    begin = f"replaceRegexpAll(toValidUTF8(substring({column}, 1, 200)), '[^!-}}]', '?')"
    stands_in = f"concat({begin}, '{STAND_IN}', hex(sipHash64({column})))"
    return f"if(match({column}, '^[!-}}]{{1,300}}$'), {column}, {stands_in})"


def _named(columns: str, names: Sequence[str], expressions: str, parameter: str) -> str:
    """Return the condition that columns have one of these names, as `_name` gives them; empty if there are none."""
    if not names:
        return ""
    stands_in = f" OR {expressions} IN {parameter}" if any(STAND_IN in name for name in names) else ""
    return f"WHERE {columns} IN {parameter}{stands_in}"


class Store:
    """The rows in ClickHouse."""

    def __init__(self, connect: Callable[[], "Client"], database: str = DATABASE) -> None:
        self.clients = Clients(connect, database)
        self._client = self.clients.lend

    def insert(self, table: str, columns: Sequence[str], rows: bytes) -> None:
        """Insert rows in RowBinary, as one block, on disk when this returns."""
        with self._client(writing=True) as client:
            client.raw_insert(table, columns, rows, settings=_INSERT, fmt="RowBinary")

    def chain_ends(self, chains: Sequence[str] = (), master: MasterKey | None = None) -> list[StoredEnd]:
        """Return the stored end of each of these chains that has one; of all if none are named.

        Without a master key none is looked at closely, so none is `authentic`.
        """
        where = _named("chain", chains, _name("chain"), "{chains:Array(String)}")
        ends = (
            "SELECT chain AS name, max(seq) AS last, uniqExact(seq) AS seqs,"  # noqa: S608  # our own names
            f" argMax((header, hash, mac), seq) AS row FROM records {where} GROUP BY chain"
        )
        query = f"SELECT {_name('name')}, last, seqs, row FROM ({ends})"  # noqa: S608  # our own names
        with self._client() as client:
            rows = client.query(query, {"chains": list(chains)}).result_rows
        return [
            stored_end(
                row[0], row[1], row[2], Stored(bytes(row[3][0]), bytes(row[3][1]), bytes(row[3][2]), None), master
            )
            for row in rows
        ]

    def chain_extent(self, chain: str, upto: int) -> tuple[int, int]:
        """Return the greatest stored seq of a chain, 0 if it has none, and how many seqs up to `upto` are stored."""
        query = "SELECT max(seq), uniqExactIf(seq, seq <= {upto:UInt64}) FROM records WHERE chain = {chain:String}"
        with self._client() as client:
            row = client.query(query, {"chain": chain, "upto": upto}).result_rows[0]
            return int(row[0]), int(row[1])

    def first_stored_twice(self, chain: str, upto: int) -> int | None:
        """Return the first seq of a chain, up to `upto`, of which there are rows that differ; None if there is none."""
        query = (
            "SELECT seq FROM records WHERE chain = {chain:String} AND seq <= {upto:UInt64} GROUP BY seq"
            " HAVING uniqExact(header, hash, mac, body) > 1 ORDER BY seq LIMIT 1"
        )
        with self._client() as client:
            rows = client.query(query, {"chain": chain, "upto": upto}).result_rows
            return int(rows[0][0]) if rows else None

    def has_records(self, records: Sequence[tuple[str, Head]], tables_suffix: str = "") -> bool:
        """Return whether all of these records, by chain, are stored."""
        query = (
            f"SELECT DISTINCT chain, seq, hash FROM records{tables_suffix}"  # noqa: S608  # our own names
            " WHERE (chain, seq) IN {places:Array(Tuple(String, UInt64))}"
        )
        places = [(chain, head.seq) for chain, head in records]
        with self._client(writing=True) as client:
            rows = client.query(query, {"places": places}).result_rows
        return {(row[0], Head(int(row[1]), bytes(row[2]))) for row in rows}.issuperset(records)

    def beginning(self, partition: int, limit: int) -> list[tuple[str, Stored]]:
        """Return chain and record, without its body, of the first rows that are stored of a log."""
        first = (
            "SELECT sequence FROM records WHERE partition = {partition:UInt32} ORDER BY sequence LIMIT {limit:UInt32}"
        )
        query = (
            f"WITH (SELECT max(sequence) FROM ({first})) AS upto SELECT chain, header, hash, mac FROM records"  # noqa: S608
            " WHERE partition = {partition:UInt32} AND sequence <= upto ORDER BY sequence, frame_index"
            " LIMIT {limit:UInt32}"
        )
        with self._client() as client:
            rows = client.query(query, {"partition": partition, "limit": limit}).result_rows
        return [(row[0], Stored(bytes(row[1]), bytes(row[2]), bytes(row[3]), None)) for row in rows]

    def requests_positions(self, ends: Mapping[int, int]) -> dict[int, int]:
        """Return by log the last message of which `requests` has a row, of those up to the log's end."""
        within = " OR ".join(f"(partition = {int(log)} AND sequence <= {int(end)})" for log, end in ends.items())
        query = f"SELECT partition, max(sequence) FROM requests WHERE {within or '0'} GROUP BY partition"  # noqa: S608
        with self._client() as client:
            return {int(row[0]): int(row[1]) for row in client.query(query).result_rows}

    def last_stored_of(self, ends: Sequence[RequestEnd]) -> int:
        """Return the last message of those of these ends that `requests` has a row of; 0 if it has none."""
        query = (
            "SELECT max(sequence) FROM requests WHERE (tenant, key_id, request_id, admission, version, partition,"
            " sequence, frame_index) IN {ends:Array(Tuple(String, String, String, UInt64, UInt64, UInt32, UInt64,"
            " UInt32))}"
        )
        found = [
            (
                *(end.admitted.tenant, end.admitted.key_id, end.admitted.request_id, end.admission, end.version),
                *(end.partition, end.sequence, end.frame_index),
            )
            for end in ends
        ]
        with self._client() as client:
            return int(client.query(query, {"ends": found}).result_rows[0][0])

    def spend_of_keys(self, keys: Sequence[tuple[str, str]] = ()) -> list[StoredSpend]:
        """Return what is stored of the requests of each of these keys, tenant and id; of all if none are named."""
        names = [name for key in keys for name in key]
        both = f"({_name('toString(tenant)')}, {_name('key_id')})"
        where = _named("(tenant, key_id)", names, both, "{keys:Array(Tuple(String, String))}")
        sums = (
            f"SELECT toString(tenant) AS of, key_id AS id, {schema.COUNTED} AS requests, count() AS rows,"  # noqa: S608
            " sum(toInt128(settled_nusd)) AS nusd, sum(toInt128(settled_tokens)) AS tokens,"
            f" {schema.DIGEST} AS digest, any(partition) AS log, max(sequence) AS last"
            f" FROM requests FINAL {where} GROUP BY tenant, key_id"
        )
        columns = f"{_name('of')}, {_name('id')}, requests, rows, nusd, tokens, digest, log, last"
        query = f"SELECT {columns} FROM ({sums})"  # noqa: S608  # our own names
        with self._client() as client:
            rows = client.query(query, {"keys": list(keys)}).result_rows
        return [StoredSpend(row[0], row[1], KeySpend(*map(int, row[2:7])), int(row[7]), int(row[8])) for row in rows]

    def records(self, chain: str, after: int, upto: int, limit: int) -> list[Stored]:
        """Return records of a chain, in order; a row that was inserted twice is returned once."""
        with self._client() as client:
            found = client.query(
                "SELECT header, hash, mac, body FROM records WHERE chain = {chain:String} AND seq > {after:UInt64}"
                " AND seq <= {upto:UInt64} ORDER BY seq LIMIT 1 BY seq, header, hash, mac, body LIMIT {limit:UInt32}",
                {"chain": chain, "after": after, "upto": upto, "limit": limit},
                column_formats={"body": "bytes"},
            )
            return [Stored(bytes(row[0]), bytes(row[1]), bytes(row[2]), bytes(row[3])) for row in found.result_rows]

    def spend(
        self, by: Sequence[SpendBy], tenant: str | None, since: datetime | None, until: datetime | None
    ) -> list[Spent]:
        """Return what requests admitted from `since` to before `until` came to, by group."""
        where, parameters = ["1"], dict[str, Any]()
        for condition, name, value in (
            ("tenant = {tenant:String}", "tenant", tenant),
            ("admitted_at >= {since:DateTime64(6, 'UTC')}", "since", _clamped(since)),
            ("admitted_at < {until:DateTime64(6, 'UTC')}", "until", _clamped(until)),
        ):
            if value is not None:
                where.append(condition)
                parameters[name] = value
        groups = [_GROUPS[name] for name in by]
        columns = ", ".join([*groups, schema.COUNTED, "sum(toInt128(settled_nusd))", "sum(toInt128(settled_tokens))"])
        order = f" GROUP BY {', '.join(groups)} ORDER BY {', '.join(groups)}" if groups else ""
        # Only expressions of _GROUPS become part of the text; what comes from outside is a parameter.
        query = f"SELECT {columns} FROM requests FINAL WHERE {' AND '.join(where)}{order}"  # noqa: S608
        with self._client() as client:
            rows = client.query(query, parameters).result_rows
            return [Spent(tuple(row[:-3]), int(row[-3]), int(row[-2]), int(row[-1])) for row in rows]

    def close(self) -> None:
        """Close the idle clients. The engine in this process ends with its last client."""
        self.clients.close()


def _clamped(at: datetime | None) -> datetime | None:
    return at if at is None else min(max(at, TIMES[0]), TIMES[1])
