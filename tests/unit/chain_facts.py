"""Chains sealed by one who holds the master key and may write anything: for tests of what verification finds then."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from keyforge.chain import record as rec
from keyforge.chain.seal import Mac, MasterKey
from keyforge.chain.verify import Stored
from tests.unit.audit_facts import KEY, MASTER, TENANT, Sent, fold, stored

CHAIN = f"key/{TENANT}/{KEY}"


@dataclass
class Draft:
    """What a record says, before it is linked and sealed; the names are those of `rec.Header`."""

    type: int
    partition: int
    generation: int
    sequence: int
    frame_index: int
    time_ns: int
    request_id: bytes
    amount_nusd: int
    settled_nusd: int
    reserved_nusd: int
    body: bytes
    erased: bool = False

    def but(self, **changes: object) -> "Draft":
        """This draft with other fields."""
        return replace(self, **changes)  # type: ignore[arg-type]  # a test says what it changes

    def saying(self, old: str, new: str) -> "Draft":
        """This draft with another body: `old`, which must be in it, is `new`."""
        assert old.encode() in self.body, (old, self.body)
        return replace(self, body=self.body.replace(old.encode(), new.encode()))


Change = Callable[[list[Draft]], list[Draft]]


def drafts(records: Sequence[Stored]) -> list[Draft]:
    """What these records say."""
    found = []
    for record in records:
        header = rec.unpack(record.header)
        fields = {name: getattr(header, name) for name in Draft.__dataclass_fields__ if name not in ("body", "erased")}
        found.append(Draft(**fields, body=record.body or b"", erased=record.body is None))
    return found


def sealed(given: Sequence[Draft], chain: str = CHAIN, master: MasterKey = MASTER) -> list[Stored]:
    """Link and seal: every hash and every MAC is right, whatever the records say."""
    chain_id = rec.chain_id(chain)
    mac = Mac(master.chain_key(chain_id))
    previous = rec.genesis(chain_id)
    made = []
    for seq, draft in enumerate(given, 1):
        header = rec.HEADER.pack(
            rec.MAGIC,
            rec.VERSION,
            draft.type,
            chain_id,
            seq,
            master.version,
            draft.partition,
            draft.generation,
            draft.sequence,
            draft.frame_index,
            draft.time_ns,
            draft.request_id,
            draft.amount_nusd,
            draft.settled_nusd,
            draft.reserved_nusd,
            rec.body_hash(draft.body),
            previous,
        )
        previous = rec.record_hash(header)
        made.append(Stored(header, previous, mac.of(previous), None if draft.erased else draft.body))
    return made


def folded(messages: Sequence[Sent], chain: str = CHAIN, *, partition: int = 0) -> list[Draft]:
    """What the gateway makes of a log, on one chain."""
    return drafts(stored(fold(messages, partition=partition), chain))
