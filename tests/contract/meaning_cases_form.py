"""Chains with a record of the wrong form, or a body that is no JSON or not of its event's shape; one line each."""

from collections.abc import Callable, Iterator

from keyforge.chain import record as rec
from keyforge.chain.rules import RecordRule
from keyforge.chain.seal import Mac, MasterKey
from keyforge.chain.verify import Stored
from tests.contract.meaning_cases import Case, base, but, saying
from tests.unit.audit_facts import MASTER
from tests.unit.chain_facts import CHAIN

OTHER = MasterKey(1, bytes(32))
REASON = '"reason":"budget_exceeded"'


def of_form() -> Iterator[Case]:
    """One for each rule, of the record that follows three right ones."""
    yield _spoilt("a header that is a byte too long", RecordRule.LENGTH, lambda one: _sealed(one.header + b"\0", one))
    yield _spoilt("a record of another format", RecordRule.FORMAT, lambda one: _at(one, 4, b"\0\2"))
    yield _spoilt("a type of record that is not known", RecordRule.KNOWN_TYPE, lambda one: _at(one, 6, b"\0\7"))
    other = rec.chain_id("key/acme/other")
    yield _spoilt("a record of another chain", RecordRule.CHAIN_ID, lambda one: _at(one, 8, other))
    yield _spoilt("a record is missing", RecordRule.SEQ, lambda one: _at(one, 40, (5).to_bytes(8, "big")))
    yield _spoilt("a record that follows another one", RecordRule.PREVIOUS, lambda one: _at(one, 152, bytes(32)))
    first = base()[0]
    same = but(4, sequence=first.sequence, frame_index=first.frame_index)
    yield Case("a position that was before", RecordRule.POSITION, same)
    yield _spoilt("a hash of another header", RecordRule.HASH, lambda one: one._replace(hash=bytes(32)))
    unknown = (2).to_bytes(4, "big")
    yield _spoilt("a master key that is not known", RecordRule.KEY_VERSION, lambda one: _at(one, 48, unknown))
    yield _spoilt("a MAC under another key", RecordRule.MAC, lambda one: _sealed(one.header, one, OTHER))
    yield _spoilt("another body", RecordRule.BODY_HASH, lambda one: one._replace(body=(one.body or b"") + b" "))


def of_json() -> Iterator[Case]:
    """Bodies that differ from one of the gateway's in a few characters."""
    yield Case("half of a character", RecordRule.ENVELOPE, saying(6, REASON, '"reason":"\\ud800"'))
    yield Case("a time without its offset", RecordRule.ENVELOPE, saying(6, '00.250000Z"', '00.250000"'))
    yield Case("a body of version 0", RecordRule.TYPE, saying(6, "refused.v1", "refused.v0"))
    yield Case("an integer with a fraction", RecordRule.EVENT, saying(6, '"count":3', '"count":3.0'))
    yield Case("an integer in quotes that needs none", RecordRule.EVENT, saying(6, '"count":3', '"count":"3"'))
    twice = saying(6, '"count":3', '"count":null,"count":3')
    yield Case("a member twice, once of another type", RecordRule.EVENT, twice)
    yield Case("a word that is empty", RecordRule.EVENT, saying(2, '"endpoint":"chat.completions"', '"endpoint":""'))
    yield Case("a body that is nested too deeply", RecordRule.ENVELOPE, saying(6, REASON, f"{REASON},{nested(63)}"))
    yield Case("a debit of an unknown scope", RecordRule.EVENT, saying(2, '"scope":"key:', '"scope":"group:'))


def nested(levels: int) -> str:
    """A member that no one knows, of so many lists; in `data` it begins at the third level."""
    return f'"x":{"[" * levels}{"]" * levels}'


def _spoilt(name: str, rule: RecordRule, spoil: Callable[[Stored], Stored]) -> Case:
    return Case(name, rule, base()[:4], spoil=spoil)


def _at(one: Stored, offset: int, written: bytes) -> Stored:
    """The record with other bytes in its header, sealed again."""
    return _sealed(one.header[:offset] + written + one.header[offset + len(written) :], one)


def _sealed(header: bytes, one: Stored, master: MasterKey = MASTER) -> Stored:
    hash_ = rec.record_hash(header)
    return one._replace(header=header, hash=hash_, mac=Mac(master.chain_key(rec.chain_id(CHAIN))).of(hash_))
