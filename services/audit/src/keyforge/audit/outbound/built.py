"""Examines the tables that a rebuild built against the fold that they were built from: every column of every record,
and what every key spent.

The engine computes hash and body hash of each row from what is stored beside them, and per chain the sum of all digests
(`core.folded_chain`), which the fold gives too; a chain whose sum differs is read and verified. In ranges, as tables
are compared (`comparison`): neither rows nor sums of many are in memory at once. Blocking: call it from a thread.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from keyforge.audit.application.ports import TableDifference
from keyforge.audit.core.evidence import spend_differs
from keyforge.audit.core.folded_chain import FoldedChain
from keyforge.audit.core.sealed import KeySpend
from keyforge.audit.core.verifying import VERIFY_RECORDS_MAX, Verification
from keyforge.audit.outbound import schema
from keyforge.audit.outbound.clients import Clients
from keyforge.audit.outbound.comparison import WITHIN, parameters_of, ranges
from keyforge.audit.outbound.tables import BESIDE
from keyforge.chain import record as rec
from keyforge.chain.seal import MasterKey, key_chain
from keyforge.chain.verify import Stored, Verdict

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

SUM_BITS: Final = 256
"""Of a sum of digests: those of one, a SHA-256."""
ALTERED: Final = "it was altered while it was built"

_TABLE: Final = schema.RECORDS + BESIDE
_OF_KEY: Final = "startsWith(chain, 'key/')"
_PART: Final = "splitByChar('/', chain)[{}]"


def _sha256(domain: bytes, column: str) -> str:
    return f"SHA256(concat(unhex('{domain.hex()}'), {column}))"


_IS_SEALED: Final = " AND ".join(
    (
        f"hash = {_sha256(rec.RECORD_DOMAIN, 'header')}",
        f"substring(header, 121, 32) = {_sha256(rec.BODY_DOMAIN, 'body')}",
        f"substring(header, 9, 32) = {_sha256(rec.CHAIN_DOMAIN, 'chain')}",
        f"tenant = if({_OF_KEY} OR startsWith(chain, 'tenant/'), {_PART.format(2)}, '')",
        f"key_id = if({_OF_KEY}, {_PART.format(3)}, '')",
        *(f"{column} = {expression}" for column, expression in schema.FROM_HEADER.items()),
    )
)
_SUMS: Final = (
    "SELECT chain, max(seq), uniqExact(seq), count(), argMax(hash, seq),"  # noqa: S608  # our own names
    " toString(sum(reinterpretAsUInt256(SHA256(concat(hash, mac))))),"
    f" minIf(seq, NOT ({_IS_SEALED})), countIf(NOT ({_IS_SEALED}))"
    f" FROM {_TABLE} WHERE {WITHIN} GROUP BY chain"
)
_RECORDS: Final = (
    f"SELECT header, hash, mac, body FROM {_TABLE} WHERE chain = {{chain:String}} AND seq > {{after:UInt64}}"  # noqa: S608
    " AND seq <= {upto:UInt64} ORDER BY seq LIMIT 1 BY seq, header, hash, mac, body LIMIT {limit:UInt32}"
)
_SPEND: Final = (
    f"SELECT toString(tenant), key_id, {schema.COUNTED}, count(), sum(toInt128(settled_nusd)),"  # noqa: S608
    f" sum(toInt128(settled_tokens)), {schema.DIGEST} FROM {schema.REQUESTS}{BESIDE} FINAL GROUP BY tenant, key_id"
)


class _Chain(msgspec.Struct):
    """What is stored of a chain, summed."""

    last: int = 0
    hash: bytes = b""
    distinct: int = 0
    rows: int = 0
    digests: int = 0

    def add(self, row: Sequence[Any]) -> None:
        """Add the sums of a range. Ranges come in order of seq."""
        self.last, self.hash = int(row[1]), bytes(row[4])
        self.distinct += int(row[2])
        self.rows += int(row[3])
        self.digests += int(row[5])

    def agrees(self, folded: FoldedChain) -> bool:
        """Whether each row of the chain is stored once, and is what the fold gave."""
        of = 1 << SUM_BITS
        stored = (self.last, self.distinct, self.rows, self.hash, self.digests % of)
        return stored == (folded.seq, folded.seq, folded.seq, folded.hash, folded.digests % of)


class Built:
    """The tables that a rebuild built."""

    def __init__(self, clients: Clients, master: MasterKey) -> None:
        self._clients = clients
        self._master = master

    def faults(
        self,
        folded: Mapping[str, FoldedChain],
        spend: Mapping[str, KeySpend],
        *,
        limit: int,
        stopped: Callable[[], bool],
    ) -> list[TableDifference]:
        """Return the first `limit` records and keys that are not what the fold gave. Raises StoreError.

        Stops early when `stopped` says so.
        """
        with self._clients.lend() as client:
            found = self._records(client, folded, limit, stopped)
            found += self._spend(client, spend, limit - len(found))
        return found

    def _records(
        self, client: "Client", folded: Mapping[str, FoldedChain], limit: int, stopped: Callable[[], bool]
    ) -> list[TableDifference]:
        chains: dict[str, _Chain] = {}
        faults: dict[str, tuple[int, str]] = {}
        begin = ("", 0)
        for end in [*ranges(client, "1"), None]:
            if stopped():
                break
            for row in client.query(_SUMS, parameters_of(begin, end)).result_rows:
                chains.setdefault(row[0], _Chain()).add(row)
                if row[7]:
                    faults.setdefault(row[0], (int(row[6]), ALTERED))
            begin = end or begin
        for chain in sorted(chains.keys() | folded.keys()):
            if len(faults) >= limit or stopped():
                break
            if chain in faults:
                continue
            expected = folded.get(chain)
            if expected is None:
                faults[chain] = (1, "no log has this chain")
            elif not chains.get(chain, _Chain()).agrees(expected) and (why := self._fault(client, chain, expected)):
                faults[chain] = why
        return [
            TableDifference(schema.RECORDS, None, chain, seq, why)
            for chain, (seq, why) in sorted(faults.items())[:limit]
        ]

    def _fault(self, client: "Client", chain: str, expected: FoldedChain) -> tuple[int, str] | None:
        """Read a chain; return the first seq that is not as it was sealed, and why. None if rows are only repeated."""
        verification = Verification(chain, self._master, expected.head)
        while (after := verification.next_after) is not None:
            upto = min(after + VERIFY_RECORDS_MAX, expected.seq)
            verification.check(self._page(client, chain, after, upto, 2 * VERIFY_RECORDS_MAX), upto)
        verdict: Verdict = verification.verdict()
        if not verdict.valid:
            return verdict.seq, verdict.why
        surplus = self._page(client, chain, expected.seq, 2**64 - 1, 1)
        return (expected.seq + 1, f"the chain ends at seq {expected.seq} in the log") if surplus else None

    @staticmethod
    def _page(client: "Client", chain: str, after: int, upto: int, limit: int) -> list[Stored]:
        parameters = {"chain": chain, "after": after, "upto": upto, "limit": limit}
        rows = client.query(_RECORDS, parameters, column_formats={"body": "bytes"}).result_rows
        return [Stored(bytes(row[0]), bytes(row[1]), bytes(row[2]), bytes(row[3])) for row in rows]

    @staticmethod
    def _spend(client: "Client", spend: Mapping[str, KeySpend], limit: int) -> list[TableDifference]:
        rows = client.query(_SPEND).result_rows
        stored = {key_chain(row[0], row[1]): KeySpend(*map(int, row[2:])) for row in rows}
        found = (
            TableDifference(schema.REQUESTS, None, chain, None, why)
            for chain in sorted(stored.keys() | spend.keys())
            if (why := spend_differs(stored.get(chain), spend.get(chain)))
        )
        return [one for _, one in zip(range(limit), found, strict=False)]
