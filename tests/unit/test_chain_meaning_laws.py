"""What a correct fold makes of any log is valid on every chain, whatever was erased of it since."""

from collections.abc import Iterator
from datetime import timedelta
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyforge.audit.core import fold_state
from keyforge.audit.core.fold import Fold
from keyforge.audit.core.sealed import Sealed
from keyforge.chain.verify import Stored, Verdict, verify
from keyforge.contracts import events
from keyforge.contracts.frame import Recorded
from keyforge.contracts.ids import TokenId
from keyforge.contracts.limits import Amounts
from keyforge.contracts.usage import Usage
from tests.unit import audit_facts as facts
from tests.unit.audit_facts import EDGE, KEY, MASTER, NOW, TENANT, Sent, fold_one

EDGES = (EDGE, "edge-1")
KEYS = (KEY, "k2")
NANO = Amounts(nusd=0, tokens=0)
HUGE = Amounts(nusd=2**63, tokens=10**30)
AMOUNTS = (facts.RESERVED, NANO, HUGE)
PAUSES = st.sampled_from([0, 0, 1, 12, 700])
USAGES = (None, facts.USED, Usage(input_tokens=10**30), Usage(output_tokens=-(10**6)))
WRITERS = {"admitted": "adm", "abandoned": "adm", "overran": "adm", "revoked": "ctl", "resumed": "ctl", "fenced": "ctl"}


def few_tombstones() -> Iterator[None]:
    """So few that the fold forgets them within a history."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(fold_state, "TOMBSTONES_MAX", 2)
        yield


@pytest.fixture(autouse=True, scope="module")
def _few_tombstones() -> Iterator[None]:
    yield from few_tombstones()


def one(draw: st.DrawFn, kind: str, edge: str, amounts: list[Amounts]) -> Recorded:
    """An event of this kind about one of few requests and keys; the same id again, where it has one, is a copy."""
    number, key_id = draw(st.integers(0, 3)), draw(st.sampled_from(KEYS))
    deadline = NOW + timedelta(seconds=draw(st.sampled_from([-200_000, 0, 60, 90_000])))
    match kind:
        case "admitted":
            reserved = draw(st.sampled_from(amounts))
            return facts.admitted(number, key_id=key_id, edge=edge, reserved=reserved, deadline=deadline)
        case "completed":
            return facts.completed(number, usage=draw(st.sampled_from(USAGES)), key_id=key_id, edge=edge)
        case "cancelled":
            return facts.cancelled(number, key_id=key_id, edge=edge, deadline=deadline)
        case "refused":
            return facts.refused(number, key_id=key_id, edge=edge)
        case "abandoned":
            return facts.abandoned(number, key_id=key_id)
        case "overran":
            return facts.overran(number, key_id=key_id)
        case "revoked":
            return facts.key_revoked(key_id, revision=number)
        case "resumed":
            resumed = events.ModelResumed(by=TokenId("op"), model=facts.MODEL, provider=facts.PROVIDER, tenant=TENANT)
            return facts.recorded(f"acme.{number}", resumed, source="keys")
    return facts.fenced(number + 1)


@st.composite
def logs(draw: st.DrawFn, *, alike: bool = False, amounts: tuple[Amounts, ...] = AMOUNTS) -> list[Sent]:
    """A log of anything in any order, at times that go anywhere or hardly move; `alike`: some requests have ids that
    differ as text and share their 16 bytes."""
    messages = [facts.begun(), facts.ctl(facts.key_created("k2"))]
    at = NOW
    wild = draw(st.booleans())
    for _ in range(draw(st.integers(0, 30))):
        kind = draw(st.sampled_from(["admitted", "admitted", "completed", "completed", "cancelled", "abandoned",
                                     "refused", "overran", "revoked", "resumed", "fenced"]))  # fmt: skip
        edge = draw(st.sampled_from(EDGES))
        found = [one(draw, kind, edge, list(amounts)) for _ in range(draw(st.integers(1, 3)))]
        at = NOW + timedelta(seconds=draw(st.integers(0, 400_000))) if wild else at + timedelta(seconds=draw(PAUSES))
        match WRITERS.get(kind, "use"):
            case "adm":
                sent = facts.adm(*found, at=at)
            case "ctl":
                sent = facts.ctl(*found, at=at)
            case _:
                sent = facts.use(*found, edge=edge, at=at)
        if alike and draw(st.booleans()):
            sent = sent._replace(data=sent.data.replace(b"0192f0c8-1111", b"0192F0C8-1111"))
        messages.append(sent)
    return messages


SECONDS = st.sampled_from([0, 0, 1, 10, 20, 590, 600, 610, 85_800, 86_400, 86_410, 86_420, -10, -600, -86_400])


@st.composite
def lives(draw: st.DrawFn) -> list[Sent]:
    """One id, admitted and ended again and again at times at which something of it is due."""
    messages, at = [facts.begun()], NOW
    for _ in range(draw(st.integers(3, 25))):
        at += timedelta(seconds=draw(SECONDS))
        deadline = at + timedelta(seconds=draw(st.sampled_from([0, 0, -10, 10, 600, -86_390, -86_400, -86_410])))
        kinds = ["admitted", "admitted", "admitted", "abandoned", "abandoned", "completed", "completed", "cancelled"]
        match draw(st.sampled_from(kinds)):
            case "admitted":
                messages.append(facts.adm(facts.admitted(1, deadline=deadline), at=at))
            case "abandoned":
                messages.append(facts.adm(facts.abandoned(1), at=at))
            case "completed":
                messages.append(facts.use(facts.completed(1), at=at))
            case _:
                messages.append(facts.use(facts.cancelled(1, deadline=deadline), at=at))
    return messages


def folded(log: list[Sent]) -> tuple[Fold, Sealed]:
    folding, out = Fold(0, MASTER), Sealed()
    for sequence, message in enumerate(log, 1):
        assert fold_one(folding, sequence, message, out) is None
    return folding, out


def chains(log: list[Sent]) -> Iterator[tuple[str, list[Stored]]]:
    """Every chain of the fold."""
    folding, out = folded(log)
    for name in folding.heads():
        yield name, facts.stored(out, name)


def checked(name: str, records: list[Stored]) -> Verdict:
    verdict = verify(name, records, MASTER)
    assert verdict.valid, (str(verdict), verdict.rule)
    return verdict


@given(logs(alike=True))
@settings(max_examples=100)
def test_every_chain_of_any_log_is_valid(log: list[Sent]) -> None:
    for name, records in chains(log):
        checked(name, records)


@given(lives(), st.randoms(use_true_random=False))
@settings(max_examples=300)
def test_the_chain_of_an_id_that_comes_again_and_again_is_valid(log: list[Sent], random: Random) -> None:
    for name, records in chains(log):
        checked(name, records)
        checked(name, [one._replace(body=None) if random.random() < 0.2 else one for one in records])


@given(logs(), st.randoms(use_true_random=False))
@settings(max_examples=100)
def test_it_stays_valid_whatever_is_erased(log: list[Sent], random: Random) -> None:
    for name, records in chains(log):
        erased = [one._replace(body=None) if random.random() < 0.4 else one for one in records]
        assert checked(name, erased).redacted == sum(one.body is None for one in erased)
        checked(name, [one._replace(body=None) for one in records])


@given(logs(amounts=(facts.RESERVED,)))
@settings(max_examples=50)
def test_the_open_requests_are_those_of_the_fold(log: list[Sent]) -> None:
    folding, out = folded(log)
    opened = sum(verify(f"key/acme/{key}", facts.stored(out, f"key/acme/{key}"), MASTER).open for key in KEYS)
    known = folding._state.requests.values()
    assert opened == sum(request is not None and request.presumed is None for request in known)
