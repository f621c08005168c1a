"""Reads tenants' records in the order of the log, page by page, for who publishes them. Nobody has checked them yet.

Blocking: call it from a thread. Every method raises StoreError.
"""

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from keyforge.audit.outbound import schema
from keyforge.audit.outbound.clients import Clients

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

FLOOD: Final = 2
"""Pages' worth of rows from which on the last message of a page is read by itself, in parts. Chosen: a message has
some hundred records; whole messages thus make a page longer by a little, and what makes it twice as long is a flood of
made-up rows."""

_HEADER: Final = schema.FROM_HEADER
_TENANTS: Final = "(startsWith(chain, 'key/') OR startsWith(chain, 'tenant/'))"
_COLUMNS_AGREE: Final = " AND ".join(
    (
        f"(tenant != '') = {_TENANTS}",
        *(f"{column} = {_HEADER[column]}" for column in ("partition", "sequence", "frame_index", "seq")),
    )
)
_DIGEST: Final = "hex(sipHash128(chain, header, hash, mac, body))"


class StoredRow(NamedTuple):
    """A row of `records`: where it says that it is (the message of its log, the chain, the seq), and the record."""

    sequence: int
    chain: str
    seq: int
    header: bytes
    hash: bytes
    mac: bytes
    body: bytes


class Page(NamedTuple):
    """All rows of the messages after the page before up to `upto`.

    `flooded`: instead, message `upto`, the next one, has too many rows for a page, and none is here.
    """

    rows: list[StoredRow]
    upto: int
    flooded: bool = False


class TenantRows:
    """Tenants' records in the order of the log.

    `by_header`: which log and message a row is of is read from its header, not from the columns beside it, which costs
    184 bytes a row and page in place of 8.
    """

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    def columns_agree(self, partition: int, after: int) -> bool:
        """Return whether the columns of all records that are after a message by their headers say the same."""
        query = (
            f"SELECT count() FROM (SELECT 1 FROM records WHERE {_HEADER['partition']} = {{partition:UInt32}}"  # noqa: S608
            f" AND {_HEADER['sequence']} > {{after:UInt64}} AND NOT ({_COLUMNS_AGREE}) LIMIT 1)"
        )
        with self._clients.lend() as client:
            return not client.query(query, {"partition": partition, "after": after}).result_rows[0][0]

    def page(self, partition: int, after: int, limit: int, *, by_header: bool = False) -> Page | None:
        """Return the rows of the messages after `after`, about `limit` of them; None if there are none.

        A message's rows are returned together.
        """
        sequence = _HEADER["sequence"] if by_header else "sequence"
        following = f"{_of(by_header=by_header)} AND {sequence} > {{after:UInt64}}"
        parameters = {"partition": partition, "after": after, "limit": limit}
        with self._clients.lend() as client:
            # The page's end is found from one column first: rows that are sorted are in memory with their bodies.
            ends = f"SELECT {sequence} AS s FROM records WHERE {following} ORDER BY s LIMIT {{limit:UInt32}}"  # noqa: S608
            first, upto, read = client.query(f"SELECT min(s), max(s), count() FROM ({ends})", parameters).result_rows[0]  # noqa: S608
            if not read:
                return None
            within = {**parameters, "upto": int(upto)}
            count = f"SELECT count() FROM records WHERE {following} AND {sequence} <= {{upto:UInt64}}"  # noqa: S608
            if int(client.query(count, within).result_rows[0][0]) > FLOOD * limit:
                if first == upto:
                    return Page([], int(upto), flooded=True)
                within["upto"] = int(upto) - 1  # fewer than `limit` rows
            condition = f"{following} AND {sequence} <= {{upto:UInt64}}"
            order = "ORDER BY s, frame_index, chain LIMIT 1 BY chain, q, header, hash, mac, body"
            return Page(_rows(client, condition, order, within, by_header=by_header), within["upto"])

    def part(
        self, partition: int, sequence: int, after: str, limit: int, *, by_header: bool = False
    ) -> tuple[list[StoredRow], str]:
        """Return at most `limit` rows of one message, in no order, and what to call it with for the next ones.

        `after` is empty at first. No rows: those were all.
        """
        column = _HEADER["sequence"] if by_header else "sequence"
        condition = f"{_of(by_header=by_header)} AND {column} = {{upto:UInt64}} AND {_DIGEST} > {{digest:String}}"
        parameters = {"partition": partition, "upto": sequence, "digest": after, "limit": limit}
        with self._clients.lend() as client:
            order = "ORDER BY d LIMIT 1 BY d LIMIT {limit:UInt32}"
            ends = f"SELECT {_DIGEST} AS d FROM records WHERE {condition} {order}"  # noqa: S608  # our own
            last = client.query(f"SELECT max(d) FROM ({ends})", parameters).result_rows[0][0]  # noqa: S608
            if not last:
                return [], after
            condition += f" AND {_DIGEST} <= {{last:String}}"
            found = _rows(client, condition, f"LIMIT 1 BY {_DIGEST}", {**parameters, "last": last}, by_header=by_header)
            return found, last


def _of(*, by_header: bool) -> str:
    """Return the condition of tenants' records of a log. By header, a row that names a tenant in either way."""
    if by_header:
        return f"({_TENANTS} OR tenant != '') AND {_HEADER['partition']} = {{partition:UInt32}}"
    return "tenant != '' AND partition = {partition:UInt32}"


def _rows(
    client: "Client", condition: str, order: str, parameters: dict[str, Any], *, by_header: bool
) -> list[StoredRow]:
    sequence, seq = (_HEADER[name] if by_header else name for name in ("sequence", "seq"))
    query = f"SELECT {sequence} AS s, chain, {seq} AS q, header, hash, mac, body FROM records WHERE {condition} {order}"  # noqa: S608  # our own
    found = client.query(query, parameters, column_formats={"body": "bytes"}).result_rows
    return [
        StoredRow(int(row[0]), row[1], int(row[2]), bytes(row[3]), bytes(row[4]), bytes(row[5]), bytes(row[6]))
        for row in found
    ]
