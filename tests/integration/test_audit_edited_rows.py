"""Edits of `requests` that leave all sums of a key as they were: what spend groups, filters or sums by is compared."""

from collections.abc import Sequence
from datetime import timedelta

import msgspec
import pytest

from keyforge.audit.application import checking
from keyforge.contracts.events import RequestAdmitted
from keyforge.contracts.frame import Recorded
from keyforge.contracts.ids import ModelName
from keyforge.contracts.usage import Usage
from tests.integration.audit_attacks import CHAIN, Attacked, attacked, delete, edit, seldom, told, two_tenants, update
from tests.integration.audit_engine import append, log_of, new_database, projecting, store_on
from tests.integration.test_audit_answers import asking
from tests.integration.test_audit_attacks import of_other
from tests.integration.test_audit_evidence import OWN_REQUESTS, ROWS, VERIFY, stands_alone
from tests.integration.test_audit_projection import caught_up, rebuilt, until
from tests.unit import audit_facts as facts
from tests.unit.audit_facts import KEY, NOW, Sent, rid

MESSAGES = two_tenants()
WHY = "its rows are not those of the log"
SOON_S = 0.05
SPEND: tuple[dict[str, str], ...] = (
    {"by": "model"},
    {"by": "day"},
    {"by": "edge,hour", "from": "2030-01-01T00:00:00Z", "to": "2030-01-02T00:00:00Z"},
    {},
)
FIRST, SECOND = f"request_id = '{rid(0)}'", f"request_id = '{rid(1)}'"


def of_model(model: str, admission: Recorded) -> Recorded:
    """The same admission, of another model."""
    assert isinstance(admission.event, RequestAdmitted)
    event = msgspec.structs.replace(admission.event, model=ModelName(model))
    return facts.recorded(admission.id, event, source=admission.source, at=admission.at)


def exchanged(column: str) -> str:
    """Two rows of a key exchange their values, which must differ."""
    of = f"(SELECT {column} FROM (SELECT * FROM requests FINAL) WHERE {OWN_REQUESTS} AND"
    change = f"{column} = if({FIRST}, {of} {SECOND}), {of} {FIRST}))"
    return update("requests", change, f"{OWN_REQUESTS} AND ({FIRST} OR {SECOND})")


def one(change: str) -> str:
    return update("requests", change, f"{OWN_REQUESTS} AND {FIRST}")


def copied(change: str) -> list[str]:
    """A row of which a column of the sorting key is edited: no UPDATE changes those."""
    row = f"(SELECT * FROM {ROWS} WHERE {FIRST} LIMIT 1)"
    marked = f"INSERT INTO requests SELECT * REPLACE ({change}, 65535 AS status) FROM {row}"
    return [marked, delete("requests", f"{OWN_REQUESTS} AND {FIRST} AND status != 65535")]


EDITS = [
    pytest.param([one("provider = 'other'")], id="provider"),
    pytest.param([update("requests", "model = 'other'", OWN_REQUESTS)], id="model of all"),
    pytest.param([one("model = concat(model, 'x')")], id="model of one"),
    pytest.param([one("model = substring(concat(provider, model), 2), provider = substring(provider, 1, 1)")],
                 id="a letter from one name to the next"),
    pytest.param([one("endpoint = 'other'")], id="endpoint"),
    pytest.param([one("edge = 'other'")], id="edge"),
    pytest.param([one("terminal = 'abandoned'")], id="terminal"),
    pytest.param([one("admitted_at = admitted_at + INTERVAL 1 DAY")], id="over midnight"),
    pytest.param([one("admitted_at = addMicroseconds(admitted_at, 1)")], id="a microsecond"),
    pytest.param(
        [one("settled_nusd = settled_nusd + 1"),
         update("requests", "settled_nusd = settled_nusd - 1", f"{OWN_REQUESTS} AND {SECOND}")],
        id="an amount from one row to another",
    ),
    pytest.param(
        [one("settled_tokens = settled_tokens + 1"),
         update("requests", "settled_tokens = settled_tokens - 1", f"{OWN_REQUESTS} AND {SECOND}")],
        id="tokens from one row to another",
    ),
    pytest.param(copied("'other' AS request_id"), id="request"),
    pytest.param(copied("admission + 1000 AS admission"), id="admission"),
]  # fmt: skip


async def disagrees(attack: Attacked) -> None:
    """All spend of the tenant is refused, and verify names it; the other tenant is served."""
    for of in ({"tenant": "acme"}, {}):
        for asked in SPEND:
            status, type_, found = await told(attack.client, "/v1/spend", **asked, **of)
            assert (status, type_) == (503, "evidence_disagrees"), found
            assert found["error"]["metadata"]["chain"] == CHAIN
            assert WHY in found["error"]["message"]
    _, _, verdict = await told(attack.client, VERIFY)
    assert (verdict["valid"], verdict["spend_agrees"]) == (True, False), verdict
    for asked in SPEND:
        assert (await told(attack.client, "/v1/spend", tenant="globex", **asked))[0] == 200


@pytest.mark.parametrize(
    "edits", seldom(EDITS, but=("model of one", "over midnight", "an amount from one row to another"))
)
async def test_an_edit_that_leaves_the_sums(edits: Sequence[str]) -> None:
    async with attacked(MESSAGES, *edits, running=False) as attack:
        await disagrees(attack)
        await stands_alone(attack)
        assert (await rebuilt(attack.projection)).identical is False
        assert (await told(attack.client, VERIFY))[2]["spend_agrees"] is True
        assert (await told(attack.client, "/v1/spend", tenant="acme", by="model"))[0] == 200


@pytest.mark.parametrize(
    "column", ["model", *(pytest.param(name, marks=pytest.mark.slow) for name in ("admitted_at", "settled_nusd"))]
)
async def test_two_rows_exchange_a_value(column: str) -> None:
    """The rows of the log differ in each of these columns."""
    messages = [
        *MESSAGES[:2],
        facts.adm(facts.admitted(0), of_model("gpt-4o", facts.admitted(1, at=NOW + timedelta(days=1)))),
        facts.use(facts.completed(0), facts.completed(1, usage=Usage(input_tokens=1))),
        *of_other(1000, 1),
    ]
    async with attacked(messages, exchanged(column), running=False) as attack:
        await disagrees(attack)


async def test_an_edit_is_found_and_forgotten_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "CHECK_EVERY_S", SOON_S)
    async with attacked(MESSAGES, running=True) as attack:
        assert (await told(attack.client, "/v1/spend", by="model"))[0] == 200
        edit(attack.store, one("model = concat(model, 'x')"))
        await until(lambda: bool(attack.projection.disagreements()), "found")
        await disagrees(attack)
        edit(attack.store, one("model = substring(model, 1, length(model) - 1)"))
        await until(lambda: not attack.projection.disagreements(), "mended")
        assert (await told(attack.client, "/v1/spend", tenant="acme", by="model"))[0] == 200


async def test_all_ends_of_the_log_agree_before_and_after_a_restart() -> None:
    """Late completions, copies, cancels on either side of their admission, abandonments, names that are odd."""
    messages: list[Sent] = [facts.begun(), facts.adm(*(facts.admitted(n) for n in range(8)))]
    messages += [
        facts.use(facts.completed(0), facts.completed(0)),
        facts.use(facts.cancelled(1)),
        facts.adm(facts.abandoned(2), facts.abandoned(3), facts.abandoned(4)),
        facts.use(facts.completed(3), facts.completed(4, usage=None), facts.completed(3)),
        facts.use(facts.cancelled(9)),
        facts.adm(facts.admitted(9)),
        facts.adm(of_model("mod\0él" * 50, facts.admitted(8))),
        facts.use(facts.completed(8)),
        facts.use(facts.completed(5, usage=None)),
    ]
    log, database = await log_of(*messages), new_database()
    for _ in range(2):
        store = store_on(database)
        async with projecting(log, store) as projection, asking(store, projection) as client:
            await caught_up(projection, log)
            status, _, found = await told(client, "/v1/spend", tenant="acme", by="model,day")
            assert status == 200, found
            assert (await told(client, f"/v1/tenants/acme/keys/{KEY}/verify"))[2]["spend_agrees"] is True
            assert not projection.disagreements()
    store = store_on(database)
    async with projecting(log, store) as projection, asking(store, projection) as client:
        await caught_up(projection, log)
        late = facts.use(facts.completed(2))  # what was presumed before the restart is replaced after it
        await append(log, [late])
        await caught_up(projection, log)
        assert (await told(client, f"/v1/tenants/acme/keys/{KEY}/verify"))[2]["spend_agrees"] is True
