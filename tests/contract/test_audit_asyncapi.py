"""docs/spec/asyncapi.json is what the contracts say, and a published message is what it describes."""

from pathlib import Path

import msgspec

from keyforge.audit import asyncapi
from keyforge.audit.outbound.outgoing import outgoing
from keyforge.chain.record import RECORD_TYPES
from keyforge.contracts import sealed, subjects
from tests.unit import audit_facts as facts

DOCUMENT = Path(__file__).parents[2] / "docs/spec/asyncapi.json"


def test_the_document_is_current() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == asyncapi.to_json()


def test_a_message_is_what_it_describes() -> None:
    out = facts.fold([facts.begun(), facts.adm(facts.admitted(1)), facts.use(facts.completed(1))])
    made = outgoing(0, out.sequence, out.records, made=len(out.records))
    assert list(made.records) == [subjects.audit_tenant(facts.TENANT), subjects.audit_keys(facts.TENANT)]
    message = sealed.join([event for _, event in made.records[subjects.audit_keys(facts.TENANT)]])
    described = asyncapi.document()["components"]["schemas"]["RecordSealed"]["properties"]
    assert {name for event in msgspec.json.decode(message) for name in event} == set(described)
    assert [one.data.seq for one in sealed.decode(message)] == [1, 2, 3]
    by_seq = {record.seq: record for record in out.records if record.chain.key_id}
    for one in sealed.decode(message):
        record = by_seq[one.data.seq]
        assert (bytes(one.data.body), bytes.fromhex(one.data.header)) == (record.body, record.header)
        assert (bytes.fromhex(one.data.hash), bytes.fromhex(one.data.mac)) == (record.hash, record.mac)


def test_a_body_past_the_bound_is_left_out() -> None:
    large = b'"' + b"x" * sealed.RECORD_BYTES_MAX + b'"'
    event = sealed.encode_one("key/acme/k", 1, b"h", b"i", b"j", large)
    (one,) = sealed.decode(sealed.join([event]))
    assert bytes(one.data.body) == b"null"
    assert one.subject == "acme/k"


def test_channels_are_what_audit_publishes_and_their_events_what_it_seals() -> None:
    """Every event that becomes a record of a tenant's or a key's chain is a body that the document describes."""
    document = asyncapi.document()
    addresses = {channel["address"] for channel in document["channels"].values()}
    assert addresses == {"kf.audit.{tenant}.keys", "kf.audit.{tenant}.tenant"}
    described = set(
        document["components"]["schemas"]["SealedRecord"]["properties"]["body"]["properties"]["type"]["enum"]
    )
    kinds = {name for name in RECORD_TYPES if name.split(".")[1] in {"request", "key", "tenant", "model"}}
    assert described == kinds - {"keyforge.tenant.placed.v1"}
