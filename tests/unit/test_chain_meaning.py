"""What one chain shows of its requests and cannot prove, how names of chains and versions of events are read."""

from datetime import timedelta

import pytest

from keyforge.audit.core import fold_state
from keyforge.chain import names, pairing
from keyforge.chain.names import ChainName
from keyforge.chain.record import PLATFORM_PARTITION, RECORD_TYPES, RecordType, record_type
from keyforge.chain.verify import Verdict, Verifier, verify
from keyforge.contracts import frame
from keyforge.contracts.events import EVENTS
from keyforge.contracts.limits import Amounts
from tests.unit import audit_facts as facts
from tests.unit.audit_facts import KEY, MASTER, NOW, Sent, abandoned, adm, admitted, begun, cancelled, completed, use
from tests.unit.chain_facts import CHAIN, Draft, drafts, folded, sealed

MINUTE, A_DAY = timedelta(minutes=1), timedelta(days=1)
OTHER = facts.ctl(facts.fenced(), at=NOW + 30 * A_DAY)
"""A message that leaves nothing on a key's chain, and has the fold forget."""


def checked(*messages: Sent) -> Verdict:
    return verify(CHAIN, facts.stored(facts.fold([begun(), *messages]), CHAIN), MASTER)


def found(given: list[Draft]) -> tuple[bool, int, int, str]:
    verdict = verify(CHAIN, sealed(given), MASTER)
    return verdict.valid, verdict.open, verdict.unproven, verdict.rule


def test_what_is_open_is_counted_and_no_fault() -> None:
    assert (checked(adm(admitted(1), admitted(2))).open, checked(adm(admitted(1)), use(completed(1))).open) == (2, 0)
    verdict = checked(adm(admitted(1), admitted(2)), use(completed(1)), adm(abandoned(2)))
    assert (verdict.valid, verdict.open, verdict.unproven) == (True, 0, 0)


def test_an_id_that_comes_again_after_it_was_forgotten_is_a_new_request() -> None:
    later = NOW + 20 * MINUTE
    verdict = checked(
        adm(admitted(1)), use(completed(1)), facts.ctl(facts.fenced(), at=later), adm(admitted(1), at=later)
    )
    assert (verdict.valid, verdict.open, verdict.unproven) == (True, 1, 0)


def test_one_that_comes_again_too_early_is_counted_as_unproven() -> None:
    """The log's clock was ahead in between: the fold makes such a chain, which does not show it."""
    verdict = checked(adm(admitted(1)), use(completed(1)), OTHER, adm(admitted(1)))
    assert (verdict.valid, verdict.open, verdict.unproven) == (True, 1, 1)
    verdict = checked(adm(admitted(1)), use(completed(1)), OTHER, use(cancelled(1)))
    assert (verdict.valid, verdict.open, verdict.unproven) == (True, 0, 1)
    verdict = checked(use(facts.refused(1)), OTHER, use(facts.refused(1)))
    assert (verdict.valid, verdict.seq, verdict.unproven) == (True, 3, 1)


def test_a_completion_long_after_its_abandonment_is_unproven() -> None:
    """A fold whose time never went back has forgotten it: that completion is no record."""
    chain = folded([begun(), adm(admitted(1)), adm(abandoned(1)), use(completed(1))])
    far = facts.nanoseconds(NOW + 2 * A_DAY)
    between = folded([begun(), use(facts.refused(5))])[1].but(sequence=4, settled_nusd=chain[2].settled_nusd)
    late = chain[3].but(sequence=5, time_ns=far)
    assert found([*chain[:3], between, late]) == (True, 0, 0, "")
    assert found([*chain[:3], between.but(time_ns=far), late]) == (True, 0, 1, "")


def test_an_admission_counts_though_it_was_cancelled_only_where_the_cancel_may_be_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fold_state, "TOMBSTONES_MAX", 1)
    others = [use(cancelled(n, deadline=NOW + n * MINUTE), at=NOW + timedelta(seconds=n)) for n in range(1, 4)]
    verdict = checked(*others, adm(admitted(1), at=NOW + MINUTE))
    assert (verdict.valid, verdict.open, verdict.unproven) == (True, 1, 1)
    verdict = checked(*others, adm(admitted(3), at=NOW + MINUTE))
    assert (verdict.valid, verdict.open, verdict.unproven) == (True, 0, 0)


def test_another_keys_cancel_is_not_one_of_this_request() -> None:
    """Both folds agree on that: see tests/unit/test_audit_and_budget.py."""
    messages = [facts.ctl(facts.key_created("k2")), use(cancelled(1, key_id="k2")), adm(admitted(1))]
    assert checked(*messages).open == 1


def test_ids_that_share_their_bytes_are_different_requests() -> None:
    upper = adm(admitted(1))
    upper = upper._replace(data=upper.data.replace(b"0192f0c8", b"0192F0C8"))
    verdict = checked(adm(admitted(1)), upper, use(completed(1)))
    assert (verdict.valid, verdict.seq, verdict.open) == (True, 4, 1)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairing, "ENDED_MAX", 5)
    monkeypatch.setattr(pairing, "LASTING_MAX", 5)
    monkeypatch.setattr(pairing, "CANCELS_MAX", 5)
    verifier = Verifier(CHAIN, lambda _: MASTER)
    messages = [begun()]
    for n in range(0, 300, 3):
        at = NOW + timedelta(seconds=n * 4)
        messages += [adm(admitted(n), admitted(n + 1), at=at), use(completed(n), at=at), adm(abandoned(n + 1), at=at)]
        messages += [use(cancelled(n + 2, deadline=at), at=at)]
    assert verifier.check(facts.stored(facts.fold(messages), CHAIN)).valid
    requests = verifier._meaning._requests
    assert len(requests._known) <= 5 + 5
    assert len(requests._cancels) <= 5
    assert verifier.verdict().open == 0


def test_an_amount_too_large_for_a_header_is_not_added_up_once_its_body_is_erased() -> None:
    huge = Amounts(nusd=2**64, tokens=1)
    log = [begun(), adm(admitted(1, reserved=huge)), adm(admitted(2)), use(completed(1)), use(completed(2))]
    chain = folded(log)
    erased = [chain[0], chain[1].but(erased=True), *chain[2:]]
    assert found(erased) == found(chain) == (True, 0, 0, "")
    assert found([*erased[:4], erased[4].but(reserved_nusd=1)]) == (False, 0, 0, "M18")


def test_a_terminal_of_what_may_be_open_is_unproven_only_if_its_cancel_was_not_due() -> None:
    """Too much is reserved to show whether the fold still knew of the cancel."""
    huge = Amounts(nusd=2**64, tokens=1)
    for days, unproven in ((0, 1), (2, 0)):
        at = NOW + days * A_DAY
        log = [begun(), use(cancelled(1)), adm(admitted(2, reserved=huge)), facts.ctl(facts.key_revoked(), at=at)]
        chain = folded([*log, OTHER, adm(admitted(1), at=at), use(completed(1), at=at)])
        assert found(chain) == (True, 1, unproven, "")


def test_an_erased_admission_that_can_only_have_reserved_is_open() -> None:
    huge = adm(admitted(1, reserved=Amounts(nusd=2**63 - 1, tokens=1)))
    chain = folded([begun(), use(cancelled(1)), OTHER, huge])
    assert chain[2].reserved_nusd == 2**63 - 1
    assert found([*chain[:2], chain[2].but(erased=True)]) == (True, 1, 1, "")


def test_an_erased_creation_stands_for_one_key_of_the_tenant() -> None:
    log = [begun(), facts.ctl(facts.key_revoked())]
    chain = drafts(facts.stored(facts.fold(log), "tenant/acme"))
    erased = [chain[0], chain[1].but(erased=True), chain[2]]
    assert verify("tenant/acme", sealed(erased, "tenant/acme"), MASTER).valid
    another = chain[2].saying(KEY, "k2").but(sequence=chain[2].sequence + 1)
    verdict = verify("tenant/acme", sealed([*erased, another], "tenant/acme"), MASTER)
    assert (verdict.valid, verdict.seq, verdict.rule) == (False, 4, "M10")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        (f"key/acme/{KEY}", ChainName("key", "acme", KEY)),
        ("tenant/acme", ChainName("tenant", "acme")),
        ("partition/0", ChainName("partition", partition=0)),
        ("partition/15", ChainName("partition", partition=15)),
        ("platform", ChainName("platform", partition=PLATFORM_PARTITION)),
        ("partition/015", None),
        ("partition/-1", None),
        ("partition/4294967295", None),
        ("key/Acme/k", None),
        ("key/acme/", None),
        ("key/acme/a/b", None),
        ("tenant/acme/", None),
        ("platform/0", None),
        ("", None),
    ],
)
def test_names_of_chains(name: str, parts: ChainName | None) -> None:
    assert names.parse(name) == parts


def test_all_versions_of_an_event_have_its_number() -> None:
    """A version in force or retired has the number of its name; two events never share one."""
    known = [*EVENTS, *frame.RETIRED]
    for name in known:
        first = name.rpartition(".v")[0] + ".v1"
        assert record_type(name) is RECORD_TYPES[first]
        assert record_type(name.rpartition(".v")[0] + ".v2") is RECORD_TYPES[first]
    assert {record_type(name) for name in known} == set(RecordType)
    for name in ("keyforge.request.admitted", "keyforge.request.admitted.v0", "keyforge.imagined.v1", "v1", ""):
        assert record_type(name) is None
