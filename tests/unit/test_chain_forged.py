"""Records that are sealed under the right key and are none: each field of a header is checked by itself."""

from typing import Any

import pytest

from keyforge.chain import record as rec
from keyforge.chain.record import HEADER, RecordType
from keyforge.chain.seal import Chain, Mac
from keyforge.chain.verify import Stored, verify
from tests.unit.audit_facts import MASTER

NAME = "key/acme/Key000000001"
BODY = b'{"n":2}'


def sealed(chain: Chain, body: bytes = BODY, sequence: int = 5) -> Stored:
    record = chain.seal(RecordType.KEY_UPDATED, body, sequence=sequence, index=3, time_ns=7)
    return Stored(record.header, record.hash, record.mac, record.body)


def forged(stored: Stored, **fields: Any) -> Stored:
    """The record with other fields, its hash and MAC made again with the chain's own key."""
    header = HEADER.pack(*rec.unpack(stored.header)._replace(**fields))
    hash_ = rec.record_hash(header)
    return stored._replace(header=header, hash=hash_, mac=Mac(MASTER.chain_key(rec.chain_id(NAME))).of(hash_))


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        pytest.param({}, "", id="as it was"),
        pytest.param({"magic": b"KFAX"}, "not a record of this format", id="magic"),
        pytest.param({"version": 2}, "not a record of this format", id="version"),
        pytest.param({"type": 99}, "unknown record type 99", id="type"),
        pytest.param({"type": 0}, "unknown record type 0", id="no type"),
        pytest.param({"chain_id": bytes(32)}, "a record of another chain", id="chain"),
        pytest.param({"seq": 3}, "seq 3 follows 1", id="seq, a gap"),
        pytest.param({"seq": 1}, "seq 1 follows 1", id="seq, twice"),
        pytest.param({"previous": bytes(32)}, "does not contain the hash of the record before it", id="previous"),
        pytest.param({"sequence": 4}, "its position is not after that of the record before it", id="position, before"),
        pytest.param({"frame_index": 3, "sequence": 5}, "its position is not after", id="position, the same"),
        pytest.param({"key_version": 2}, "the master key of version 2 is unknown", id="key version"),
        pytest.param({"body_hash": bytes(32)}, "the body does not match its hash", id="body hash"),
    ],
)
def test_a_forged_field_is_named(fields: dict[str, Any], why: str) -> None:
    chain = Chain(NAME, MASTER, partition=0)
    first, second = sealed(chain, b'{"n":1}'), sealed(chain, sequence=6)
    verdict = verify(NAME, [first, forged(second, **fields)], MASTER)
    assert why in verdict.why
    assert (verdict.valid, verdict.seq) == (not why, 2)


@pytest.mark.parametrize("field", ["header", "hash", "mac", "body"])
def test_what_was_not_made_again_is_named(field: str) -> None:
    chain = Chain(NAME, MASTER, partition=0)
    first, second = sealed(chain, b'{"n":1}'), sealed(chain, sequence=6)
    why = {
        "header": "does not contain the hash",
        "hash": "the hash is not that of the header",
        "mac": "the MAC is wrong",
        "body": "the body does not match its hash",
    }
    changed = second._replace(**{field: (b"\0" if field == "body" else getattr(second, field)[:-1] + b"\0")})
    assert why[field] in verify(NAME, [first, changed], MASTER).why
