"""Makes `vectors/audit-meaning-v1.json`: chains, and what a verifier must answer to each of them.

Run as `python -m tests.contract.meaning_vectors` to write the file again. What is wrong in meaning is sealed with the
right key: only what its records say is wrong. The rules are those of docs/spec/audit-format.md.
"""

import json
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from keyforge.chain.record import PLATFORM_PARTITION
from keyforge.chain.verify import Stored, Verdict, verify
from keyforge.contracts import subjects
from tests.contract import meaning_cases_form, meaning_cases_times
from tests.contract.meaning_cases import HUGE, OVERRUN, PLATFORM_EVENTS, TENANT_EVENTS, Case, key_updated, negative
from tests.unit import audit_facts as facts
from tests.unit.audit_facts import MASTER, NOW, Sent
from tests.unit.chain_facts import CHAIN, Draft, folded, sealed

FILE: Final = Path(__file__).parent / "vectors" / "audit-meaning-v1.json"
ABOUT: Final = (
    "Chains for docs/spec/audit-format.md, sealed with master_key, which is made up for this file; what an M rule "
    "finds wrong has the right hashes and MACs. `valid`: where an entry is named after an event, its last record is "
    "of that one. `invalid`: the verdict must be INVALID at `seq`, since that record breaks `rule`. `body` is the text "
    "of the body, null: erased. `unproven` is a lower bound."
)
"""What the file says of itself."""


def valid() -> Iterator[tuple[str, str, list[Draft]]]:
    """One chain of the gateway's own for each type of record, which ends with one of that type; and what looks odd."""
    begun = facts.begun()
    open_ = [begun, facts.adm(facts.admitted(1))]
    requests: dict[str, list[Sent]] = {
        "request.admitted": open_,
        "request.completed": [*open_, facts.use(facts.completed(1))],
        "request.cancelled": [*open_, facts.use(facts.cancelled(1))],
        "request.abandoned": [*open_, facts.adm(facts.abandoned(1))],
        "request.refused": [begun, facts.use(facts.refused(1))],
        "request.overran": [*open_, facts.use(facts.completed(1, usage=OVERRUN)), facts.adm(facts.overran(1))],
        "key.created": [begun],
        "key.updated": [begun, facts.ctl(key_updated())],
        "key.revoked": [begun, facts.ctl(facts.key_revoked())],
    }
    for name, messages in requests.items():
        yield name, CHAIN, folded(messages)
    yield "tenant.created", "tenant/acme", folded([facts.ctl(facts.tenant_created())], "tenant/acme")
    for name, event in TENANT_EVENTS.items():
        yield name, "tenant/acme", folded([begun, facts.ctl(event)], "tenant/acme")
    for name, event in PLATFORM_EVENTS.items():
        sent = facts.sent(subjects.PLATFORM_CTL, event)
        yield name, "platform", folded([sent], "platform", partition=PLATFORM_PARTITION)
    yield "partition.fenced", "partition/0", folded([facts.ctl(facts.fenced())], "partition/0")
    yield from odd()
    yield from meaning_cases_times.remembered()


def odd() -> Iterator[tuple[str, str, list[Draft]]]:
    """What looks wrong and is right."""
    begun, admitted = facts.begun(), facts.adm(facts.admitted(1))
    late = [begun, admitted, facts.adm(facts.abandoned(1)), facts.use(facts.completed(1))]
    yield "a completion replaces an abandonment", CHAIN, folded(late)
    yield "a cancel before its admission", CHAIN, folded([begun, facts.use(facts.cancelled(1)), admitted])
    yield "an edge knows no usage", CHAIN, folded([begun, admitted, facts.use(facts.completed(1, usage=None))])
    back = [begun, admitted, facts.use(facts.completed(1), at=NOW - timedelta(minutes=5))]
    yield "broker time goes back", CHAIN, folded(back)
    huge = facts.adm(facts.admitted(1, reserved=HUGE), facts.admitted(2, reserved=HUGE))
    yield "totals past 64 bits", CHAIN, folded([begun, huge, facts.use(facts.completed(1), facts.completed(2))])
    refused = facts.use(facts.refused(1))
    deepest = refused.data.replace(b'"tenant":', f'{meaning_cases_form.nested(62)},"tenant":'.encode(), 1)
    yield "a body that is nested as deep as it may be", CHAIN, folded([begun, refused._replace(data=deepest)])
    later = NOW + timedelta(minutes=20)
    again = [facts.use(facts.completed(1)), facts.ctl(facts.fenced(), at=later), admitted._replace(at=later)]
    yield "an id that was forgotten is admitted again", CHAIN, folded([begun, admitted, *again])
    for name, at in (("the admission", 1), ("the completion", 2), ("the creation of the key", 0)):
        drafts = folded([begun, admitted, facts.use(facts.completed(1))])
        yield f"{name} is erased", CHAIN, [one.but(erased=n == at) for n, one in enumerate(drafts)]


def verdict_of(chain: str, records: Iterable[Stored]) -> Verdict:
    """The product's answer."""
    return verify(chain, records, MASTER)


def invalid() -> Iterator[Case]:
    """All that is wrong: in form first, then in meaning."""
    yield from meaning_cases_form.of_form()
    yield from negative()
    yield from meaning_cases_form.of_json()
    yield from meaning_cases_times.forgotten_too_early()


def written(records: list[Stored]) -> list[dict[str, Any]]:
    """How the file shows records."""
    return [
        {
            "header": one.header.hex(),
            "hash": one.hash.hex(),
            "mac": one.mac.hex(),
            "body": None if one.body is None else one.body.decode(),
        }
        for one in records
    ]


def _valid(name: str, chain: str, drafts: list[Draft]) -> dict[str, Any]:
    records = sealed(drafts, chain)
    found = verdict_of(chain, records)
    assert found.valid, (name, found)
    return {
        "name": name,
        "chain": chain,
        "verdict": {"seq": found.seq, "open": found.open, "unproven": found.unproven, "redacted": found.redacted},
        "records": written(records),
    }


def _invalid(case: Case) -> dict[str, Any]:
    *before, last = sealed(case.drafts, case.chain)
    records = [*before, case.spoil(last)]
    return {
        "name": case.name,
        "chain": case.chain,
        "verdict": {"seq": case.seq or len(records), "rule": case.rule.value},
        "records": written(records),
    }


def vectors() -> dict[str, Any]:
    """The file's content."""
    return {
        "about": ABOUT,
        "master_key": MASTER.secret.hex(),
        "key_version": MASTER.version,
        "valid": [_valid(*one) for one in valid()],
        "invalid": [_invalid(case) for case in invalid()],
    }


def text() -> str:
    """The file, to the byte."""
    return json.dumps(vectors(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
