"""Chains that one who holds the master key could seal, and that mean something that cannot be; one line each."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from keyforge.chain.record import NO_REQUEST, PLATFORM_PARTITION, RecordType, request_bytes
from keyforge.chain.rules import RecordRule
from keyforge.chain.verify import Stored
from keyforge.contracts import events, subjects
from keyforge.contracts.frame import Recorded
from keyforge.contracts.ids import CredentialId, KeyId, ProviderId, TenantId, TokenId
from keyforge.contracts.limits import Amounts
from keyforge.contracts.usage import Usage
from keyforge.testkit.encrypted_names import encrypted
from tests.unit import audit_facts as facts
from tests.unit.audit_facts import COST_NUSD, KEY, RESERVED
from tests.unit.chain_facts import CHAIN, Draft, folded

BY: Final = TokenId("op")
TENANT_CHAIN: Final = "tenant/acme"
HUGE: Final = Amounts(nusd=2**63, tokens=5_000)
HELD: Final = RESERVED.nusd
OVERRUN: Final = Usage(input_tokens=20_000, output_tokens=10_000)
"""Costs what `facts.overran` says: 9,000,000."""


def recorded(event: events.Event) -> Recorded:
    """As keys writes it."""
    return facts.recorded(f"{event.TYPE}.2", event, source="keys")


def key_updated(key_id: str = KEY) -> Recorded:
    """The policy of a key changed."""
    return recorded(
        events.KeyUpdated(
            by=BY,
            expires_at=None,
            key_id=KeyId(key_id),
            limits=(),
            max_output_tokens=None,
            models=None,
            name=encrypted("agent"),
            revision=2,
            secret_version=1,
            tenant=TenantId("acme"),
        )
    )


TENANT_EVENTS: Final = {
    "tenant.updated": recorded(
        events.TenantUpdated(
            by=BY,
            limits=(),
            name=encrypted("Acme"),
            plan="free",
            revision=2,
            secret_version=1,
            status="suspended",
            tenant=facts.TENANT,
        )
    ),
    "model.resumed": recorded(
        events.ModelResumed(by=BY, model=facts.MODEL, provider=facts.PROVIDER, tenant=facts.TENANT)
    ),
}
PLATFORM_EVENTS: Final = {
    "provider.registered": recorded(
        events.ProviderRegistered(
            allow_insecure=False,
            auth="bearer",
            base_url="https://api.openai.com/v1",
            by=BY,
            dialects=("openai-chat",),
            kind="openai",
            price_feed="openai",
            provider=facts.PROVIDER,
            revision=1,
        )
    ),
    "credential.added": recorded(
        events.CredentialAdded(
            base_url="https://api.openai.com/v1",
            by=BY,
            credential=CredentialId("c1"),
            encrypted="AAEC",
            encrypted_to="edge-key-1",
            provider=facts.PROVIDER,
            quota_group="default",
            version=1,
            weight=1,
        )
    ),
    "price.set": facts.price_set(),
    "operator.created": recorded(
        events.OperatorCreated(by=BY, digest="01" * 32, role="platform-admin", token_id=TokenId("t1"))
    ),
    "credential.revoked": recorded(
        events.CredentialRevoked(by=BY, credential=CredentialId("c1"), provider=ProviderId("openai"), reason="leaked")
    ),
    "operator.revoked": recorded(events.OperatorRevoked(by=BY, reason="left", token_id=TokenId("t1"))),
    "tenant.placed": recorded(events.TenantPlaced(by=BY, partition=2, tenant=facts.TENANT)),
}


@dataclass(frozen=True)
class Case:
    """A chain whose record `seq` (0: the last) breaks a rule; `spoil` changes the last after all are sealed."""

    name: str
    rule: RecordRule
    drafts: list[Draft]
    seq: int = 0
    chain: str = CHAIN
    spoil: Callable[[Stored], Stored] = lambda one: one


def base() -> list[Draft]:
    """A chain of the gateway's: 1 created, 2 and 3 admitted, 4 completed (of 2), 5 abandoned (of 3), 6 refused, 7 a
    cancel that came before its admission."""
    return folded(
        [
            facts.begun(),
            facts.adm(facts.admitted(1), facts.admitted(2)),
            facts.use(facts.completed(1)),
            facts.adm(facts.abandoned(2)),
            facts.use(facts.refused(3)),
            facts.use(facts.cancelled(4)),
        ]
    )


def but(seq: int, **changes: object) -> list[Draft]:
    """The chain up to record `seq`, which says something else."""
    drafts = base()[:seq]
    return [*drafts[:-1], drafts[-1].but(**changes)]


def saying(seq: int, old: str, new: str) -> list[Draft]:
    """The chain up to record `seq`, whose body says something else."""
    drafts = base()[:seq]
    return [*drafts[:-1], drafts[-1].saying(old, new)]


def then(drafts: list[Draft], *more: Draft) -> list[Draft]:
    """These records, and more of them in messages of their own."""
    made = list(drafts)
    for one in more:
        made.append(replace(one, sequence=made[-1].sequence + 1, frame_index=0))
    return made


def only(seq: int, **changes: object) -> Draft:
    """One record of the chain, which says something else."""
    return base()[seq - 1].but(**changes)


def negative() -> Iterator[Case]:
    """All of them, in the order of the rules."""
    yield from _of_places()
    yield from _of_messages()
    yield from _of_bodies()
    yield from _of_tenants()
    yield from _of_pairs()
    yield from _of_amounts()
    yield from _of_erased()


def _of_places() -> Iterator[Case]:
    platform = folded([facts.sent(subjects.PLATFORM_CTL, facts.price_set())], "platform", partition=PLATFORM_PARTITION)
    fenced = folded([facts.ctl(facts.fenced())], "partition/0")
    tenant = folded([facts.begun(), facts.ctl(TENANT_EVENTS["tenant.updated"])], TENANT_CHAIN)
    yield Case("a fence on a key's chain", RecordRule.CHAIN, then(base()[:1], fenced[0]))
    yield Case("a price on a tenant's chain", RecordRule.CHAIN, then(tenant, platform[0]), chain=TENANT_CHAIN)
    yield Case("an admission on the platform's chain", RecordRule.CHAIN, then(platform, only(2)), chain="platform")
    yield Case("a key's creation on a partition's chain", RecordRule.CHAIN, then(fenced, only(1)), chain="partition/0")
    yield Case("a chain of no name", RecordRule.CHAIN, base(), 1, "key/acme")
    yield Case("a key's chain begins with an admission", RecordRule.FIRST, base()[1:], 1)
    yield Case("a key is created twice", RecordRule.FIRST, then(base(), only(1)))
    yield Case("a tenant's chain begins with a key", RecordRule.FIRST, tenant[1:], 1, TENANT_CHAIN)
    yield Case("a record of another partition", RecordRule.LOG, but(4, partition=1))
    yield Case("a key's chain from the platform's log", RecordRule.LOG, but(1, partition=PLATFORM_PARTITION))
    yield Case("a fence in another partition's log", RecordRule.LOG, [fenced[0].but(partition=1)], chain="partition/0")
    yield Case("a price in a partition's log", RecordRule.LOG, [platform[0].but(partition=0)], chain="platform")
    yield Case("generation 0", RecordRule.LOG, but(1, generation=0))
    yield Case("broker time in nanoseconds", RecordRule.TIME, but(4, time_ns=base()[3].time_ns + 1))


def _of_messages() -> Iterator[Case]:
    yield Case("one message, two broker times", RecordRule.TIME, but(3, time_ns=base()[2].time_ns + 1000))
    completed = only(4, sequence=base()[2].sequence, frame_index=2)
    yield Case("an admission and its completion in one message", RecordRule.WRITER, [*base()[:3], completed])
    refused = only(6, sequence=base()[3].sequence, frame_index=1).saying("edge-0", "edge-1")
    yield Case("two edges in one message", RecordRule.WRITER, [*base()[:4], refused])


def _of_bodies() -> Iterator[Case]:
    yield Case("a body that is no event", RecordRule.ENVELOPE, but(6, body=b'{"data":{}}'))
    yield Case("a body of two events", RecordRule.ENVELOPE, but(6, body=base()[5].body + b"," + base()[5].body))
    yield Case("a body of an unknown version", RecordRule.EVENT, saying(6, "refused.v1", "refused.v99"))
    yield Case("a body without a member", RecordRule.EVENT, saying(6, '"count":3,', ""))
    yield Case("a body of an unknown event", RecordRule.TYPE, saying(6, "request.refused.v1", "request.imagined.v1"))
    yield Case("a overrun whose body is a refusal's", RecordRule.TYPE, but(6, type=RecordType.REQUEST_OVERRAN))
    yield Case("a cancel under the type of a completion", RecordRule.TYPE, but(7, type=RecordType.REQUEST_COMPLETED))
    yield Case("a key's update whose body revokes it", RecordRule.TYPE, _typed())
    yield Case("an admission for another tenant", RecordRule.OWNER, saying(2, '"tenant":"acme"', '"tenant":"other"'))
    yield Case("an admission for another key", RecordRule.OWNER, saying(2, f'"key_id":"{KEY}"', '"key_id":"other"'))
    yield Case(
        "a completion that names another tenant", RecordRule.OWNER, saying(4, '"tenant":"acme"', '"tenant":"other"')
    )
    yield Case("another key's creation", RecordRule.OWNER, saying(1, f'"key_id":"{KEY}"', '"key_id":"other"'))


def _typed() -> list[Draft]:
    revoked = folded([facts.begun(), facts.ctl(facts.key_revoked())])[1]
    return then(base(), revoked.but(type=RecordType.KEY_UPDATED, settled_nusd=base()[-1].settled_nusd))


def _of_tenants() -> Iterator[Case]:
    made = folded([facts.begun(), facts.ctl(facts.key_revoked())], TENANT_CHAIN)
    yield Case("another tenant's creation", RecordRule.OWNER, [made[0].saying("acme", "other")], chain=TENANT_CHAIN)
    yield Case("a key that is revoked before it is created", RecordRule.KEYS, [made[0], made[2]], chain=TENANT_CHAIN)
    yield Case("a tenant's key that is created twice", RecordRule.KEYS, then(made, made[1]), chain=TENANT_CHAIN)
    yield Case("a key's id with a slash", RecordRule.KEYS, [made[0], made[1].saying(KEY, "a/b")], chain=TENANT_CHAIN)


def _of_pairs() -> Iterator[Case]:
    other = request_bytes(facts.rid(9))
    yield Case("the header names another request", RecordRule.REQUEST, but(4, request_id=other))
    yield Case("the header names no request", RecordRule.REQUEST, but(6, request_id=NO_REQUEST))
    yield Case("a request id on a key's creation", RecordRule.REQUEST, but(1, request_id=other))
    yield Case("a refusal is recorded twice", RecordRule.COPY, then(base()[:6], only(6)))
    yield Case("a revocation is recorded twice", RecordRule.COPY, _revoked_twice())
    yield Case("a request is admitted twice", RecordRule.ADMISSION, then(base()[:2], only(2)))
    again = only(2, settled_nusd=COST_NUSD, reserved_nusd=2 * HELD)
    yield Case("a request is admitted again right after its end", RecordRule.ADMISSION, then(base()[:4], again))
    yield Case("a completion without an admission", RecordRule.TERMINAL, then(base()[:1], only(4)))
    yield Case("a request is completed twice", RecordRule.TERMINAL, then(base()[:4], only(4)))
    yield Case("an abandonment without an admission", RecordRule.TERMINAL, then(base()[:1], only(5)))
    late = only(5).saying(facts.rid(2), facts.rid(1)).but(request_id=request_bytes(facts.rid(1)))
    yield Case("an abandonment after a completion", RecordRule.TERMINAL, then(base()[:4], late))
    yield Case("a request is abandoned twice", RecordRule.TERMINAL, then(base()[:5], only(5)))
    cancelled = folded([facts.begun(), facts.adm(facts.admitted(1)), facts.use(facts.cancelled(1))])
    yield Case("a completion after a cancel", RecordRule.TERMINAL, then(cancelled, only(4)))
    yield Case("a cancel after a completion", RecordRule.TERMINAL, then(base()[:4], cancelled[2].but(
        settled_nusd=COST_NUSD, reserved_nusd=HELD)))  # fmt: skip
    tomb = folded([facts.begun(), facts.use(facts.cancelled(1)), facts.adm(facts.admitted(1))])
    yield Case("a completion after a cancel that came first", RecordRule.TERMINAL, then(tomb, only(4)))
    yield Case("completed by another edge", RecordRule.EDGE, saying(4, '"edge":"edge-0"', '"edge":"edge-1"'))
    yield Case("cancelled by another edge", RecordRule.EDGE, [*cancelled[:2], cancelled[2].saying("edge-0", "edge-1")])


def _revoked_twice() -> list[Draft]:
    made = folded([facts.begun(), facts.ctl(facts.key_revoked())])
    return then(made, made[1])


def _of_amounts() -> Iterator[Case]:
    yield Case("an admission shows less than it reserves", RecordRule.AMOUNT, but(2, amount_nusd=1))
    yield Case("a completion costs less than its usage", RecordRule.AMOUNT, but(4, amount_nusd=COST_NUSD - 1))
    yield Case(
        "an edge's usage is not what was settled",
        RecordRule.AMOUNT,
        saying(4, '"input_tokens":1000', '"input_tokens":9'),
    )
    yield Case("an abandonment costs nothing", RecordRule.AMOUNT, but(5, amount_nusd=0))
    yield Case("a refusal costs", RecordRule.AMOUNT, but(6, amount_nusd=1))
    yield Case("a cancel costs", RecordRule.AMOUNT, but(7, amount_nusd=1))
    yield Case("a key's creation costs", RecordRule.AMOUNT, but(1, amount_nusd=1))
    overran = folded([facts.begun(), facts.adm(facts.overran(1))])
    yield Case("an overrun shows another cost", RecordRule.AMOUNT, [overran[0], overran[1].but(amount_nusd=1)])
    yield Case("an overrun settles", RecordRule.SETTLED, [overran[0], overran[1].but(settled_nusd=9_000_000)])
    yield Case("a completion settles nothing", RecordRule.SETTLED, but(4, settled_nusd=0))
    yield Case("a refusal settles", RecordRule.SETTLED, but(6, settled_nusd=base()[5].settled_nusd + 1))
    late = folded(
        [facts.begun(), facts.adm(facts.admitted(1)), facts.adm(facts.abandoned(1)), facts.use(facts.completed(1))]
    )
    both = late[3].but(settled_nusd=HELD + COST_NUSD)
    yield Case("an abandonment and its completion both count", RecordRule.SETTLED, [*late[:3], both])
    yield Case("an admission reserves nothing", RecordRule.RESERVED, but(2, reserved_nusd=0))
    yield Case("a completion releases nothing", RecordRule.RESERVED, but(4, reserved_nusd=2 * HELD))
    yield Case("a late completion releases again", RecordRule.RESERVED, [*late[:3], late[3].but(reserved_nusd=-HELD)])
    yield Case("a key's creation reserves", RecordRule.RESERVED, but(1, reserved_nusd=1))


def _of_erased() -> Iterator[Case]:
    """What is still checked when a body is gone."""
    other = but(2, reserved_nusd=1, erased=True)
    yield Case("erased: an admission reserves another amount than it shows", RecordRule.RESERVED, other)
    yield Case("erased: a completion without an admission", RecordRule.TERMINAL, then(base()[:1], only(4, erased=True)))
    yield Case("erased: a completion costs less than nothing", RecordRule.AMOUNT, but(4, amount_nusd=-1, erased=True))
    yield Case("erased: a completion settles another amount", RecordRule.SETTLED, but(4, settled_nusd=1, erased=True))
    yield Case("erased: a refusal costs", RecordRule.AMOUNT, but(6, amount_nusd=1, erased=True))
    fenced = but(6, type=RecordType.PARTITION_FENCED, erased=True)
    yield Case("erased: a fence on a key's chain", RecordRule.CHAIN, fenced)
    name, admitted = "a completion releases another amount", [base()[0], base()[1].but(erased=True)]
    yield Case(f"erased admission: {name}", RecordRule.RESERVED, then(admitted, only(4, reserved_nusd=1)))
