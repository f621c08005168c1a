"""Records that are sealed under the right key and are none: each field of a header is checked by itself."""

from typing import Any

import pytest

from keyforge.chain import record as rec
from keyforge.chain.record import HEADER
from keyforge.chain.seal import Mac
from keyforge.chain.verify import Stored, verify
from tests.unit import audit_facts as facts
from tests.unit.audit_facts import MASTER

NAME = "key/acme/Key000000001"


def records() -> list[Stored]:
    """The first two records of a key."""
    return facts.stored(facts.fold([facts.begun(), facts.adm(facts.admitted(1))]), NAME)


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
        pytest.param({"sequence": 0}, "its position is not after that of the record before it", id="position, before"),
        pytest.param({"frame_index": 1, "sequence": 1}, "its position is not after", id="position, the same"),
        pytest.param({"key_version": 2}, "the master key of version 2 is unknown", id="key version"),
        pytest.param({"body_hash": bytes(32)}, "the body does not match its hash", id="body hash"),
    ],
)
def test_a_forged_field_is_named(fields: dict[str, Any], why: str) -> None:
    first, second = records()
    verdict = verify(NAME, [first, forged(second, **fields)], MASTER)
    assert why in verdict.why
    assert (verdict.valid, verdict.seq) == (not why, 2)


@pytest.mark.parametrize("field", ["header", "hash", "mac", "body"])
def test_what_was_not_made_again_is_named(field: str) -> None:
    first, second = records()
    why = {
        "header": "does not contain the hash",
        "hash": "the hash is not that of the header",
        "mac": "the MAC is wrong",
        "body": "the body does not match its hash",
    }
    kept: bytes = getattr(second, field)
    changed = second._replace(**{field: kept[:-1] + bytes((kept[-1] ^ 1,))})
    assert why[field] in verify(NAME, [first, changed], MASTER).why
