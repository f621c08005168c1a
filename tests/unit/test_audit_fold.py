"""The fold: which events become which records, what a request came to, and that batches and restarts change no byte."""

from datetime import timedelta

import msgspec
import pytest

from keyforge.audit.core.fold import Fold
from keyforge.audit.core.sealed import Sealed
from keyforge.chain import record as rec
from keyforge.chain.record import PLATFORM_PARTITION, RECORD_TYPES, RecordType
from keyforge.chain.verify import verify
from keyforge.contracts import events, subjects
from keyforge.contracts.ids import CredentialId, ProviderId, TokenId
from keyforge.contracts.usage import Usage
from tests.unit import audit_facts as facts
from tests.unit.audit_facts import (
    COST_NUSD,
    KEY,
    MASTER,
    NOW,
    RESERVED,
    Sent,
    abandoned,
    adm,
    admitted,
    begun,
    cancelled,
    completed,
    ctl,
    fold,
    refused,
    use,
)

CHAIN = f"key/acme/{KEY}"
HELD = RESERVED.nusd
A_DAY = timedelta(days=1)


def money(sealed: Sealed, chain: str = CHAIN) -> list[tuple[str, int, int, int]]:
    """Type, amount, settled, reserved of the records of a chain that are about requests."""
    headers = [rec.unpack(record.header) for record in sealed.records if record.chain.name == chain]
    return [
        (RecordType(header.type).name.removeprefix("REQUEST_"), header.amount_nusd, header.settled_nusd,
         header.reserved_nusd)
        for header in headers
        if RecordType(header.type).name.startswith("REQUEST_")
    ]  # fmt: skip


def ended(sealed: Sealed) -> list[tuple[str, int]]:
    return [(end.settled.terminal, end.settled.nusd) for end in sealed.ends]


def why(sealed: Sealed) -> list[str]:
    return [event.why for event in sealed.rejected]


def test_every_event_has_a_record_type_of_its_own() -> None:
    assert set(RECORD_TYPES) == set(events.EVENTS)


ADMITTED = ("ADMITTED", HELD, 0, HELD)


@pytest.mark.parametrize(
    ("messages", "records", "ends"),
    [
        pytest.param([adm(admitted(1))], [ADMITTED], [], id="open"),
        pytest.param(
            [adm(admitted(1)), use(completed(1))],
            [ADMITTED, ("COMPLETED", COST_NUSD, COST_NUSD, 0)],
            [("completed", COST_NUSD)],
            id="completed at usage times pinned prices",
        ),
        pytest.param(
            [adm(admitted(1)), use(completed(1, usage=None))],
            [ADMITTED, ("COMPLETED", HELD, HELD, 0)],
            [("completed", HELD)],
            id="usage not known: at the reserved",
        ),
        pytest.param(
            [adm(admitted(1)), use(completed(1, usage=Usage()))],
            [ADMITTED, ("COMPLETED", 0, 0, 0)],
            [("completed", 0)],
            id="the provider billed nothing",
        ),
        pytest.param(
            [adm(admitted(1)), use(cancelled(1))],
            [ADMITTED, ("CANCELLED", 0, 0, 0)],
            [("cancelled", 0)],
            id="cancelled at nothing",
        ),
        pytest.param(
            [use(cancelled(1)), adm(admitted(1))],
            [("CANCELLED", 0, 0, 0), ("ADMITTED", HELD, 0, 0)],
            [("cancelled", 0)],
            id="a cancel before its admission",
        ),
        pytest.param(
            [adm(admitted(1)), adm(abandoned(1))],
            [ADMITTED, ("ABANDONED", HELD, HELD, 0)],
            [("abandoned", HELD)],
            id="abandoned at the reserved",
        ),
        pytest.param(
            [adm(admitted(1)), adm(abandoned(1)), use(completed(1))],
            [ADMITTED, ("ABANDONED", HELD, HELD, 0), ("COMPLETED", COST_NUSD, COST_NUSD, 0)],
            [("abandoned", HELD), ("completed", COST_NUSD)],
            id="a late completion replaces an abandonment",
        ),
        pytest.param(
            [adm(admitted(1)), adm(abandoned(1)), use(completed(1, usage=None))],
            [ADMITTED, ("ABANDONED", HELD, HELD, 0), ("COMPLETED", HELD, HELD, 0)],
            [("abandoned", HELD), ("completed", HELD)],
            id="also one that knows no usage",
        ),
        pytest.param(
            [adm(admitted(1)), use(completed(1)), adm(abandoned(1))],
            [ADMITTED, ("COMPLETED", COST_NUSD, COST_NUSD, 0)],
            [("completed", COST_NUSD)],
            id="never the reverse",
        ),
        pytest.param(
            [adm(admitted(1)), use(completed(1)), use(completed(1)), use(cancelled(1))],
            [ADMITTED, ("COMPLETED", COST_NUSD, COST_NUSD, 0)],
            [("completed", COST_NUSD)],
            id="one terminal counts",
        ),
        pytest.param(
            [adm(admitted(1)), adm(abandoned(1)), adm(abandoned(1)), use(cancelled(1))],
            [ADMITTED, ("ABANDONED", HELD, HELD, 0)],
            [("abandoned", HELD)],
            id="after an abandonment only a completion counts",
        ),
        pytest.param(
            [adm(admitted(1), admitted(2)), use(completed(2))],
            [ADMITTED, ("ADMITTED", HELD, 0, 2 * HELD), ("COMPLETED", COST_NUSD, COST_NUSD, HELD)],
            [("completed", COST_NUSD)],
            id="two open",
        ),
        pytest.param([use(refused(1)), use(refused(1))], [("REFUSED", 0, 0, 0)], [], id="a refusal sent twice"),
        pytest.param([adm(facts.overran(1))], [("OVERRAN", 9_000_000, 0, 0)], [], id="overran settles nothing itself"),
    ],
)
def test_requests(messages: list[Sent], records: list[tuple[str, int, int, int]], ends: list[tuple[str, int]]) -> None:
    found = fold([begun(), *messages])
    assert money(found) == records
    assert ended(found) == ends
    assert why(found) == []
    assert verify(CHAIN, facts.stored(found, CHAIN), MASTER).valid


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        pytest.param(use(completed(1), edge="edge-1"), "not the edge of the admission", id="another edge's subject"),
        pytest.param(
            use(completed(1, edge="edge-1"), edge="edge-1"), "not the edge of the admission", id="another edge"
        ),
        pytest.param(use(cancelled(1), edge="edge-1"), "not on the edge's own subject", id="a cancel elsewhere"),
        pytest.param(
            use(cancelled(1, edge="edge-1"), edge="edge-1"), "not the edge of the admission", id="another's cancel"
        ),
        pytest.param(use(completed(1, key_id="k2")), "not the key of the admission", id="completed for another key"),
        pytest.param(use(completed(1, tenant="b")), "not the key of the admission", id="completed for another tenant"),
        pytest.param(use(cancelled(1, key_id="k2")), "not the key of the admission", id="cancelled for another key"),
        pytest.param(adm(abandoned(1, key_id="k2")), "not the key of the admission", id="abandoned for another key"),
        pytest.param(use(refused(9), edge="edge-1"), "not on the edge's own subject", id="a refusal elsewhere"),
        pytest.param(use(completed(9)), "unknown request", id="never admitted"),
        pytest.param(adm(abandoned(9)), "unknown request", id="never admitted, abandoned"),
        pytest.param(adm(admitted(1)), "admitted already", id="admitted twice"),
        pytest.param(adm(admitted(2, key_id="stranger")), "unknown key", id="unknown key"),
        pytest.param(adm(admitted(2, tenant="stranger")), "unknown key", id="key of another tenant"),
        pytest.param(use(refused(2, tenant="stranger")), "unknown key", id="refusal of an unknown tenant"),
        pytest.param(use(cancelled(2, key_id="stranger")), "unknown key", id="cancel of an unknown key"),
        pytest.param(ctl(facts.key_created("x", tenant="stranger")), "unknown tenant", id="key of an unknown tenant"),
        pytest.param(
            ctl(msgspec.structs.replace(facts.tenant_created(), id="again")), "the tenant exists already", id="a tenant"
        ),
        pytest.param(
            ctl(msgspec.structs.replace(facts.key_created(), id="again")), "the key exists already", id="a key"
        ),
        pytest.param(ctl(facts.key_created("a/b")), "not a valid key id", id="a key id with a slash"),
        pytest.param(ctl(facts.tenant_created("A/b")), "not a valid tenant id", id="a tenant id with a slash"),
        pytest.param(ctl(facts.key_revoked("other")), "unknown key", id="revocation of an unknown key"),
    ],
)
def test_a_rejected_event_is_no_record_and_is_reported(message: Sent, reason: str) -> None:
    before = [begun(), adm(admitted(1))]
    found = fold([*before, message])
    assert why(found) == [reason]
    assert found.rejected[0].sequence == 3
    assert [r.header for r in found.records] == [r.header for r in fold(before).records]


def test_a_cancel_that_names_another_key_is_on_that_keys_chain_and_no_tombstone_of_the_request() -> None:
    found = fold([begun(), ctl(facts.key_created("k2")), use(cancelled(1, key_id="k2")), adm(admitted(1))])
    assert money(found, "key/acme/k2") == [("CANCELLED", 0, 0, 0)]
    assert (money(found), ended(found), why(found)) == ([ADMITTED], [], [])


def test_a_negative_usage_lowers_nothing_on_the_chain_and_is_on_record() -> None:
    less = Usage(input_tokens=-(10**6), output_tokens=-(10**30))
    history = [begun(), adm(admitted(1)), use(completed(1)), adm(admitted(2)), use(completed(2, usage=less))]
    found = fold(history)
    assert money(found)[-1] == ("COMPLETED", 0, COST_NUSD, 0)
    assert b'"input_tokens":-1000000' in found.records[-1].body


def test_what_an_operator_does_to_a_key_is_on_two_chains_with_one_body() -> None:
    found = fold([begun(), ctl(facts.key_revoked())])
    of_key = [r for r in found.records if r.chain.name == CHAIN]
    of_tenant = [r for r in found.records if r.chain.name == "tenant/acme"]
    assert [rec.unpack(r.header).type for r in of_key] == [RecordType.KEY_CREATED, RecordType.KEY_REVOKED]
    assert [rec.unpack(r.header).type for r in of_tenant] == [
        RecordType.TENANT_CREATED,
        RecordType.KEY_CREATED,
        RecordType.KEY_REVOKED,
    ]
    assert of_key[1].body == of_tenant[2].body
    assert verify("tenant/acme", facts.stored(found, "tenant/acme"), MASTER).seq == 3


def test_fences_are_on_the_partitions_chain_and_prices_on_the_platforms() -> None:
    assert fold([ctl(facts.fenced())]).records[0].chain.name == "partition/0"
    found = fold([facts.sent(subjects.PLATFORM_CTL, facts.price_set())], partition=PLATFORM_PARTITION)
    assert found.records[0].chain.name == "platform"
    assert rec.unpack(found.records[0].header).partition == PLATFORM_PARTITION


def test_the_end_of_a_credential_and_of_a_token_is_on_the_platforms_chain() -> None:
    by = TokenId("admin")
    ends = (
        events.CredentialRevoked(credential=CredentialId("c"), provider=ProviderId("p"), reason="leaked", by=by),
        events.OperatorRevoked(token_id=TokenId("t"), reason="left", by=by),
    )
    recorded = [facts.recorded(f"end.{number}", end, source="keys") for number, end in enumerate(ends)]
    found = fold([facts.sent(subjects.PLATFORM_CTL, *recorded)], partition=PLATFORM_PARTITION)
    assert found.rejected == []
    assert [rec.unpack(record.header).type for record in found.records] == [52, 53]
    assert b'"reason":"leaked"' in found.records[0].body


def test_an_abandonment_may_be_replaced_for_a_day_and_is_then_forgotten() -> None:
    deadline = NOW + timedelta(minutes=1)
    history = [begun(), adm(admitted(1, deadline=deadline)), adm(abandoned(1))]
    meanwhile = [ctl(facts.fenced(hours), at=deadline + timedelta(hours=hours)) for hours in (1, 12, 23)]
    for between in ([], meanwhile):  # what is due is forgotten after each message
        in_time = fold([*history, *between, use(completed(1), at=deadline + A_DAY)])
        assert ended(in_time) == [("abandoned", HELD), ("completed", COST_NUSD)]
    later = deadline + A_DAY + timedelta(seconds=30)
    too_late = fold([*history, ctl(facts.fenced(), at=later), use(completed(1), at=later)])
    assert ended(too_late) == [("abandoned", HELD)]
    assert why(too_late) == ["unknown request"]


def test_an_open_request_is_never_forgotten() -> None:
    found = fold([begun(), adm(admitted(1)), ctl(facts.fenced(), at=NOW + 30 * A_DAY), use(completed(1))])
    assert ended(found) == [("completed", COST_NUSD)]


def test_a_cancel_that_names_a_far_deadline_is_forgotten_all_the_same() -> None:
    far = cancelled(1, deadline=NOW + 3650 * A_DAY)
    folding = Fold(0, MASTER)
    history = [begun(), use(far), ctl(facts.fenced(), at=NOW + 2 * A_DAY)]
    fold(history, into=folding)
    found = fold([adm(admitted(1), at=NOW + 2 * A_DAY)], into=folding, after=len(history))
    assert money(found) == [ADMITTED]


def test_an_edge_reports_what_no_column_holds() -> None:
    huge = completed(1, usage=Usage(input_tokens=10**30), duration_ms=10**30)
    found = fold([begun(), adm(admitted(1)), use(huge)])
    assert verify(CHAIN, facts.stored(found, CHAIN), MASTER).seq == 3
    assert found.ends[0].settled.nusd > 0


@pytest.mark.parametrize("beside", [b"", b", {}"], ids=["alone", "beside one that cannot be read"])
def test_what_is_hashed_is_the_event_as_it_lies_in_the_log(beside: bytes) -> None:
    """Not as it would be written: who checks a record has the bytes of the log."""
    canonical = use(refused(1)).data[1:-1]
    fields = msgspec.json.decode(canonical)
    lying = msgspec.json.format(msgspec.json.encode(dict(reversed(fields.items()))), indent=1)
    assert lying != canonical
    unknown = beside.replace(b"{}", canonical.replace(b"request.refused", b"request.imagined"))
    found = fold([begun(), Sent(subjects.use(0, facts.EDGE), NOW, b"[ " + lying + unknown + b" ]")])
    record = found.records[-1]
    header = rec.unpack(record.header)
    assert (header.type, record.body) == (RecordType.REQUEST_REFUSED, lying)
    assert header.body_hash == rec.body_hash(lying)
