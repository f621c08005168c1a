"""The table of members: consistent in itself, and the same as the tables of docs/deploy.md."""

import importlib.util
from collections.abc import Iterable
from pathlib import Path

import pytest

from keyforge.contracts import members
from keyforge.contracts.members import MEMBERS, PORTS, Access, Member, Process

DEPLOY = Path(__file__).resolve().parents[2] / "docs" / "deploy.md"
PARTITION = 0


def code(names: Iterable[str]) -> str:
    return " ".join(f"`{name}`" for name in names) or "-"


def starts_after(process: Process) -> str:
    if process.start_stage == 0:
        return "-"
    return code([members.NATS, "declare", *process.needs])


def process_row(member: Member, process: Process) -> str:
    first, *further = ((members.PORT_BASE_DEFAULT + port.offset, port.use) for port in process.ports)
    ports = ", ".join([str(first[0]), *(f"{number} ({use})" for number, use in further)])
    healthy = f"`{process.ready_path}`" + (f": {code(process.checks)}" if process.checks else "")
    stops = str(process.stop_stage + 1)
    row = (f"`{member.name}`", member.does, ports, healthy, starts_after(process), stops, code(process.secrets))
    return f"| {' | '.join(row)} |"


def without_partition(subject: str) -> str:
    return subject.replace(f".{PARTITION}.", ".<p>.")


def access_row(member: Member, access: Access) -> str:
    each = [without_partition(subject(PARTITION)) for subject in access.publishes_each]
    logs = ["KF_LOG_<p>"] if access.reads_logs else []
    row = (
        f"`{member.name}`",
        code([*each, *access.publishes]),
        code(access.subscribes),
        code([*logs, *access.reads]),
        code(access.reads_buckets),
        code(access.writes_buckets),
    )
    return f"| {' | '.join(row)} |"


def test_the_documents_tables_are_these() -> None:
    processes = [
        "| member | what it does | port | healthy when | starts after | stops | secrets of its own |",
        "|---|---|---|---|---|---|---|",
        *(process_row(member, member.process) for member in MEMBERS if member.process),
    ]
    users = [
        "| user | publishes | subscribes | reads streams | reads buckets | writes buckets |",
        "|---|---|---|---|---|---|",
        *(access_row(member, member.access) for member in MEMBERS if member.access),
    ]
    text = DEPLOY.read_text()
    for table in (processes, users):
        assert "\n".join(table) in text, "docs/deploy.md: put this table in\n" + "\n".join(table)


def test_no_name_port_or_secret_is_given_twice() -> None:
    secrets = [secret for member in MEMBERS if member.process for secret in member.process.secrets]
    for given in (
        [member.name for member in MEMBERS],
        [port.name for port in PORTS],
        [port.offset for port in PORTS],
        [port.use for port in PORTS],
    ):
        assert len(given) == len(set(given))
    shared = {secret for secret in secrets if secrets.count(secret) > 1}
    assert shared == {"KEYFORGE_COMMITMENT_SECRET"}, "a secret goes to whom it is for, and to nobody else"


def test_every_process_can_be_asked_and_every_module_is_there() -> None:
    for member in MEMBERS:
        if (process := member.process) is None:
            continue
        assert process.ready_port in {port.name for port in process.ports}, member.name
        assert process.module is None or importlib.util.find_spec(process.module), member.name
        assert bool(process.checks) == (process.ready_path == "/readyz"), member.name


def test_the_log_starts_first_and_stops_last_and_the_edge_stops_first() -> None:
    processes = {member.name: member.process for member in MEMBERS if member.process}
    others = [process for name, process in processes.items() if name != members.NATS]
    log, edge = processes[members.NATS], processes[members.EDGE]
    assert all(log.start_stage < other.start_stage and log.stop_stage > other.stop_stage for other in others)
    assert all(edge.stop_stage < other.stop_stage for other in processes.values() if other is not edge)


def test_a_user_without_a_process_is_no_process() -> None:
    assert members.SERVICES == (members.AUDIT, members.KEYS, members.BUDGET, members.EDGE)
    with pytest.raises(KeyError):
        members.process_of(members.TAIL)


def test_only_admin_may_do_everything() -> None:
    for member in MEMBERS:
        if member.access is not None and member.name != members.ADMIN:
            assert not any(subject == ">" for subject in (*member.access.publishes, *member.access.subscribes))
