"""Records of the published format, byte for byte: the file, the product and a second implementation agree.

The second implementation is written from docs/spec/audit-format.md with the standard library and nothing of ours. A
change of any byte fails here; a new format gets a new version and a new file.
"""

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest

from keyforge.chain import record as rec
from keyforge.chain.record import RecordType
from keyforge.chain.seal import Chain, MasterKey
from keyforge.chain.verify import Stored, Verdict, verify
from keyforge.contracts.canonical import canonical

VECTORS = json.loads((Path(__file__).parent / "vectors" / "audit-format-v1.json").read_text(encoding="utf-8"))
LAYOUTS = VECTORS["chains"][1:]
CHAINS = pytest.mark.parametrize("vector", VECTORS["chains"], ids=lambda vector: vector["name"])


def sha256(domain: str, data: bytes) -> bytes:
    return hashlib.sha256(f"keyforge/audit/{domain}/v1".encode() + b"\0" + data).digest()


def derived(master: bytes, chain_id: bytes) -> bytes:
    """HKDF-SHA256 of RFC 5869 for one block of output."""
    extracted = hmac.new(bytes(32), master, "sha256").digest()
    return hmac.new(extracted, b"keyforge/audit/key/v1\0" + chain_id + b"\x01", "sha256").digest()


def request_bytes(request_id: str) -> bytes:
    if not request_id:
        return bytes(16)
    parts = request_id.split("-")
    if [len(part) for part in parts] == [8, 4, 4, 4, 12] and all(c in "0123456789abcdef" for c in "".join(parts)):
        return bytes.fromhex("".join(parts))
    return sha256("request", request_id.encode())[:16]


def second(vector: dict[str, Any]) -> list[dict[str, str]]:
    """The records of a vector, from the specification's words."""
    chain_id = sha256("chain", vector["name"].encode())
    key = derived(bytes.fromhex(vector["master_key"]), chain_id)
    previous = sha256("genesis", chain_id)
    made = []
    for seq, given in enumerate(vector["records"], 1):
        header = b"".join(
            (
                b"KFAR",
                (1).to_bytes(2, "big"),
                given["type"].to_bytes(2, "big"),
                chain_id,
                seq.to_bytes(8, "big"),
                vector["key_version"].to_bytes(4, "big"),
                vector["partition"].to_bytes(4, "big"),
                (1).to_bytes(4, "big"),
                given["sequence"].to_bytes(8, "big"),
                given["index"].to_bytes(4, "big"),
                given["time_ns"].to_bytes(8, "big", signed=True),
                request_bytes(given["request_id"]),
                given["amount_nusd"].to_bytes(8, "big", signed=True),
                given["settled_nusd"].to_bytes(8, "big", signed=True),
                given["reserved_nusd"].to_bytes(8, "big", signed=True),
                sha256("body", given["body"].encode()),
                previous,
            )
        )
        assert len(header) == 184
        previous = sha256("record", header)
        mac = hmac.new(key, b"keyforge/audit/mac/v1\0" + previous, "sha256").digest()
        made.append({"header": header.hex(), "hash": previous.hex(), "mac": mac.hex()})
    return made


def ours(vector: dict[str, Any]) -> list[dict[str, str]]:
    """The records of a vector, from the product."""
    master = MasterKey(vector["key_version"], bytes.fromhex(vector["master_key"]))
    chain = Chain(vector["name"], master, partition=vector["partition"])
    settled = reserved = 0
    made = []
    for given in vector["records"]:
        sealed = chain.seal(
            RecordType(given["type"]),
            given["body"].encode(),
            sequence=given["sequence"],
            index=given["index"],
            time_ns=given["time_ns"],
            request=rec.request_bytes(given["request_id"]) if given["request_id"] else rec.NO_REQUEST,
            amount_nusd=given["amount_nusd"],
            settled_nusd=given["settled_nusd"] - settled,
            reserved_nusd=given["reserved_nusd"] - reserved,
        )
        settled, reserved = given["settled_nusd"], given["reserved_nusd"]
        made.append({"header": sealed.header.hex(), "hash": sealed.hash.hex(), "mac": sealed.mac.hex()})
    return made


def outputs(vector: dict[str, Any]) -> list[dict[str, str]]:
    return [{name: given[name] for name in ("header", "hash", "mac")} for given in vector["records"]]


@CHAINS
def test_the_product_makes_the_published_bytes(vector: dict[str, Any]) -> None:
    assert ours(vector) == outputs(vector)


@CHAINS
def test_the_second_implementation_makes_them_too(vector: dict[str, Any]) -> None:
    assert second(vector) == outputs(vector)


def stored(vector: dict[str, Any]) -> list[Stored]:
    return [
        Stored(
            bytes.fromhex(given["header"]),
            bytes.fromhex(given["hash"]),
            bytes.fromhex(given["mac"]),
            given["body"].encode(),
        )
        for given in vector["records"]
    ]


def verdict(vector: dict[str, Any]) -> Verdict:
    master = MasterKey(vector["key_version"], bytes.fromhex(vector["master_key"]))
    return verify(vector["name"], stored(vector), master)


def test_the_first_chain_verifies() -> None:
    assert str(verdict(VECTORS["chains"][0])) == "VALID to seq 8"


@pytest.mark.parametrize("vector", LAYOUTS, ids=lambda vector: vector["name"])
def test_the_layouts_are_right_in_form_and_mean_nothing(vector: dict[str, Any]) -> None:
    found = verdict(vector)
    assert (found.valid, found.rule[0]) == (False, "M"), found


def test_the_totals_of_the_first_chain_add_up() -> None:
    """By the table of types: what a record holds is what it moves, on top of what the record before it held."""
    settled = reserved = 0
    presumed: set[str] = set()
    held: dict[str, int] = {}
    for given in VECTORS["chains"][0]["records"]:
        request, amount = given["request_id"], given["amount_nusd"]
        if given["type"] == RecordType.REQUEST_ADMITTED:
            held[request] = amount
            reserved += amount
        elif given["type"] in (RecordType.REQUEST_COMPLETED, RecordType.REQUEST_ABANDONED):
            again = request in presumed
            settled += amount - (held[request] if again else 0)
            reserved -= 0 if again else held[request]
            presumed |= {request} if given["type"] == RecordType.REQUEST_ABANDONED else set()
        assert (given["settled_nusd"], given["reserved_nusd"]) == (settled, reserved)


@CHAINS
def test_their_bodies_are_canonical(vector: dict[str, Any]) -> None:
    for given in vector["records"]:
        assert canonical(json.loads(given["body"])).decode() == given["body"]


def test_the_numbers_of_record_types_are_for_ever() -> None:
    assert VECTORS["record_types"] == {name: int(kind) for name, kind in rec.RECORD_TYPES.items()}


@pytest.mark.parametrize("vector", VECTORS["canonical"], ids=lambda vector: vector["why"])
def test_canonical_json(vector: dict[str, Any]) -> None:
    assert canonical(vector["value"]).decode() == vector["canonical"]
