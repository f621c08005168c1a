"""Chains on which the fold's memory shows: what it still knew, and what it may or must not have forgotten."""

from collections.abc import Iterator
from datetime import timedelta

from keyforge.chain.record import request_bytes
from keyforge.chain.rules import RecordRule
from tests.contract.meaning_cases import TENANT_CHAIN, Case, key_updated
from tests.unit import audit_facts as facts
from tests.unit.audit_facts import NOW
from tests.unit.chain_facts import CHAIN, Draft, folded

BACK = NOW - timedelta(days=1)
A_DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)


def remembered() -> Iterator[tuple[str, str, list[Draft]]]:
    """What looks wrong and is right."""
    begun, admitted, completed = facts.begun(), facts.adm(facts.admitted(1)), facts.use(facts.completed(1))
    abandoned = facts.adm(facts.abandoned(1))
    later = NOW + 20 * MINUTE
    short, late = facts.adm(facts.admitted(1, deadline=NOW)), NOW + A_DAY + MINUTE
    yield (
        "a completion after its abandonment was due frees the id at once",
        CHAIN,
        folded([begun, short, abandoned, completed._replace(at=late), admitted._replace(at=late)]),
    )
    passed = facts.ctl(facts.fenced(), at=later)
    yield (
        "a cancel before its admission meets a second one too",
        CHAIN,
        folded([begun, facts.use(facts.cancelled(1)), admitted, passed, admitted._replace(at=later)]),
    )
    yield "another edge cancels before the admission", CHAIN, folded([begun, _by_another_edge(), admitted])
    ahead = facts.ctl(facts.fenced(), at=NOW + 30 * A_DAY)
    yield "an id comes again early: unproven", CHAIN, folded([begun, admitted, completed, ahead, admitted])
    yield (
        "an abandonment that was due is completed: unproven",
        CHAIN,
        folded([begun._replace(at=NOW + 2 * A_DAY), admitted, abandoned, completed]),
    )
    refused = facts.use(facts.refused(1))
    yield "a refusal comes again early: unproven", CHAIN, folded([begun, refused, ahead, refused])
    opened = folded([begun, facts.use(facts.cancelled(1)), ahead, admitted])
    yield "an admission reserves though it was cancelled: unproven", CHAIN, opened
    yield "a body that is not canonical", CHAIN, _not_canonical()
    yield "a request id that is no UUID", CHAIN, _no_uuid()


def _by_another_edge() -> facts.Sent:
    return facts.use(facts.cancelled(1, edge="edge-1"), edge="edge-1")


def _not_canonical() -> list[Draft]:
    """A member that nobody knows, white space, a member twice, an escape that is not needed."""
    drafts = folded([facts.begun(), facts.use(facts.refused(1))])
    odd = drafts[1].saying('"count":3,', ' "count" : 2, "count" : 3,"colour":[1.5,{}],')
    return [drafts[0], odd.saying('"reason":"budget', '"reas\\u006fn":"budget')]


def _no_uuid() -> list[Draft]:
    drafts = folded([facts.begun(), facts.adm(facts.admitted(1)), facts.use(facts.completed(1))])
    text = facts.rid(1).replace("-", "_")
    return [drafts[0], *(one.saying(facts.rid(1), text).but(request_id=request_bytes(text)) for one in drafts[1:])]


def forgotten_too_early() -> Iterator[Case]:
    """No clock of the log explains these."""
    begun, refused = facts.begun(), facts.use(facts.refused(1), at=BACK)
    copied = folded([begun, facts.adm(facts.admitted(2), at=NOW + 20 * MINUTE), refused])
    copied.append(copied[-1].but(sequence=copied[-1].sequence + 1))
    yield Case("broker time went back: a refusal is recorded twice", RecordRule.COPY, copied)
    ended = folded([begun, facts.adm(facts.admitted(1), at=BACK), facts.use(facts.completed(1), at=BACK)])
    again = ended[1].but(sequence=ended[-1].sequence + 1, settled_nusd=ended[-1].settled_nusd)
    yield Case("broker time went back: admitted right after its end", RecordRule.ADMISSION, [*ended, again])
    cancelled = folded([begun, facts.adm(facts.admitted(1), at=BACK), facts.use(facts.cancelled(1), at=BACK)])
    twice = cancelled[-1].but(sequence=cancelled[-1].sequence + 1)
    yield Case("broker time went back: cancelled right after its end", RecordRule.TERMINAL, [*cancelled, twice])
    begun, admitted = facts.begun(), facts.adm(facts.admitted(1))
    other = folded([begun, _by_another_edge(), admitted])
    ended = [*other[:2], other[2].but(reserved_nusd=0)]
    yield Case("another edge's cancel ends an admission", RecordRule.RESERVED, ended)
    early = folded([begun, facts.use(facts.cancelled(1))])
    twice = early[1].but(frame_index=early[1].frame_index + 1)
    yield Case("a request is cancelled twice in one message", RecordRule.TERMINAL, [*early, twice])
    tenant = folded([facts.ctl(facts.tenant_created())], TENANT_CHAIN)
    updated = folded([begun, facts.ctl(key_updated())], TENANT_CHAIN)[-1]
    none = [*tenant, updated.but(erased=True)]
    yield Case("erased: a key is updated before any is created", RecordRule.KEYS, none, chain=TENANT_CHAIN)
