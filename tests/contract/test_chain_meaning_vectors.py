"""Chains of the published file, right and wrong in what they mean: the file, its generator and the product agree.

The file is for implementations that are not ours: what is wrong in meaning is sealed with the right key, so what makes
a chain INVALID there is what its records say.
"""

import json
from typing import Any

import pytest

from keyforge.chain.record import RecordType, unpack
from keyforge.chain.rules import RecordRule
from keyforge.chain.seal import MasterKey
from keyforge.chain.verify import Stored, Verifier
from tests.contract import meaning_vectors

VECTORS = json.loads(meaning_vectors.FILE.read_text(encoding="utf-8"))
MASTER = MasterKey(VECTORS["key_version"], bytes.fromhex(VECTORS["master_key"]))
VALID = pytest.mark.parametrize("vector", VECTORS["valid"], ids=lambda vector: vector["name"])
INVALID = pytest.mark.parametrize("vector", VECTORS["invalid"], ids=lambda vector: vector["name"])


def records(vector: dict[str, Any]) -> list[Stored]:
    return [
        Stored(
            bytes.fromhex(one["header"]),
            bytes.fromhex(one["hash"]),
            bytes.fromhex(one["mac"]),
            None if one["body"] is None else one["body"].encode(),
        )
        for one in vector["records"]
    ]


def verifier(vector: dict[str, Any]) -> Verifier:
    return Verifier(vector["chain"], lambda version: MASTER if version == MASTER.version else None)


def test_the_generator_makes_the_file() -> None:
    """If not: `python -m tests.contract.meaning_vectors`, and look at what changed."""
    assert meaning_vectors.FILE.read_text(encoding="utf-8") == meaning_vectors.text()


@VALID
def test_what_the_gateway_makes_is_valid(vector: dict[str, Any]) -> None:
    found = verifier(vector).check(records(vector))
    assert found.valid, str(found)
    assert found.rule == ""
    shown = {"seq": found.seq, "open": found.open, "unproven": found.unproven, "redacted": found.redacted}
    assert shown == vector["verdict"]


@INVALID
def test_what_cannot_be_is_invalid_where_it_is_said(vector: dict[str, Any]) -> None:
    found = verifier(vector).check(records(vector))
    assert (found.valid, found.seq, found.rule) == (False, vector["verdict"]["seq"], vector["verdict"]["rule"]), found
    assert found.why


@INVALID
def test_what_comes_before_the_record_that_is_wrong_is_valid(vector: dict[str, Any]) -> None:
    found = verifier(vector).check(records(vector)[: vector["verdict"]["seq"] - 1])
    assert (found.valid, found.seq) == (True, vector["verdict"]["seq"] - 1), found


def test_every_type_of_record_has_a_chain_that_ends_with_it() -> None:
    types = {name.lower().replace("_", "."): kind for name, kind in RecordType.__members__.items()}
    last = {one["name"]: unpack(records(one)[-1].header).type for one in VECTORS["valid"] if one["name"] in types}
    assert last == types


def test_every_rule_of_a_record_has_a_chain_that_breaks_it() -> None:
    broken = {one["verdict"]["rule"] for one in VECTORS["invalid"]}
    assert broken == {rule.value for rule in RecordRule} - {RecordRule.HEAD.value}
    assert len(VECTORS["invalid"]) >= 20
