"""docs/subscribe.md: each program, as it stands there, receives every record of a real audit and resumes after its end.

Node's is in the lane `clients`: it installs its packages with npm.
"""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from keyforge.chain.seal import key_chain
from keyforge.contracts import members, subjects
from keyforge.testkit.nats_client import until
from keyforge.testkit.nats_server import NatsNode, die_with_parent
from tests.integration.audit_stack import Audit, audit_on, server_with_users
from tests.unit import audit_facts as facts
from tests.unit.audit_facts import KEY, TENANT

TEXT = (Path(__file__).parents[2] / "docs/subscribe.md").read_text()
PULL, ORDERED, FASTSTREAM, NODE = (
    "Python: nats-py, a durable pull consumer",
    "Python: nats-py, an ordered consumer",
    "Python: FastStream",
    "Node: a durable pull consumer",
)
DURABLE = {PULL: "billing", FASTSTREAM: "alerts", NODE: "dashboard"}
PROGRAMS = {
    section.partition("\n")[0]: found[1]
    for section in TEXT.split("\n## ")
    if (found := re.search(r"^```(?:python|js)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL))
}
CHAIN = key_chain(TENANT, KEY)
NPM_S = 120
PACKAGES = ("@nats-io/transport-node@3", "@nats-io/jetstream@3")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsNode]:
    with server_with_users(tmp_path / "nats") as node:
        yield node


class Running:
    """A program of the document, and what it printed so far."""

    def __init__(self, command: list[str], server: NatsNode, output: Path) -> None:
        self._output = output
        with output.open("ab") as written:
            self._process = subprocess.Popen(
                command,
                cwd=output.parent,
                env={**os.environ, "NATS_URL": server.url, "NATS_PASSWORD": f"fixture-{members.TAIL}"},
                stdout=written,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call, no lock
            )

    def seqs(self) -> list[int]:
        """The seqs of the key's records that it printed, as they came."""
        text = self._output.read_text()
        assert self._process.poll() is None, text
        lines = [line.split() for line in text.splitlines() if line.startswith(CHAIN)]
        assert all(line[2].startswith(("keyforge.request.", "keyforge.key.")) for line in lines)
        return [int(line[1]) for line in lines]

    def stop(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait(60)


@asynccontextmanager
async def running(command: list[str], server: NatsNode, output: Path) -> AsyncIterator[Running]:
    """The program, until the block ends."""
    program = await asyncio.to_thread(Running, command, server, output)
    try:
        yield program
    finally:
        await asyncio.to_thread(program.stop)


async def receives_and_resumes(commands: dict[str, list[str]], server: NatsNode, tmp_path: Path) -> None:
    """Each program prints every record once, is killed, and goes on when it starts again."""
    async with audit_on(server, tmp_path / "audit", users=True) as audit:
        audit.start()
        await audit.append(facts.begun(), *_requests(0))
        await audit.ready()
        first = [
            _until(21, name, command, server, tmp_path / f"{i}.first", audit)
            for i, (name, command) in enumerate(commands.items())
        ]
        seen = dict(zip(commands, await asyncio.gather(*first), strict=True))
        await audit.append(*_requests(100))
        second = [
            _until(41, name, command, server, tmp_path / f"{i}.second", audit)
            for i, (name, command) in enumerate(commands.items())
        ]
        resumed = dict(zip(commands, await asyncio.gather(*second), strict=True))
    for name in commands:
        assert seen[name] == list(range(1, 22)), name
        assert resumed[name] == list(range(22 if name in DURABLE else 1, 42)), name


async def _until(seq: int, name: str, command: list[str], server: NatsNode, output: Path, audit: Audit) -> list[int]:
    """What a program prints until it printed this seq, and acknowledged it if it is to."""
    async with running(command, server, output) as program:

        async def done() -> bool:
            await asyncio.sleep(0)
            if seq not in program.seqs():
                return False
            return name not in DURABLE or await audit.unacknowledged(subjects.AUDIT_STREAM, DURABLE[name]) == 0

        await until(done)
        return program.seqs()


def _requests(first: int) -> list[facts.Sent]:
    """Twenty records of the key."""
    numbers = range(first, first + 10)
    return [
        one for number in numbers for one in (facts.adm(facts.admitted(number)), facts.use(facts.completed(number)))
    ]


def test_the_document_has_a_program_for_each_client() -> None:
    assert list(PROGRAMS) == [PULL, ORDERED, FASTSTREAM, NODE]
    assert len(re.findall("^```(?:python|js)$", TEXT, re.MULTILINE)) == len(PROGRAMS)


async def test_python_clients_receive_and_resume(server: NatsNode, tmp_path: Path) -> None:
    commands = {}
    for number, name in enumerate((PULL, ORDERED, FASTSTREAM)):
        program = tmp_path / f"program{number}.py"
        program.write_text(PROGRAMS[name])
        commands[name] = [sys.executable, str(program)]
    await receives_and_resumes(commands, server, tmp_path)


@pytest.fixture
def node_packages(tmp_path: Path) -> Path:
    """A folder with the packages that the document names; skips where they cannot be had."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed")
    folder = tmp_path / "node"
    folder.mkdir()
    (folder / "package.json").write_text("{}")
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", *PACKAGES]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=NPM_S, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm did not install {' '.join(PACKAGES)} within {NPM_S} s")
    if done.returncode:
        pytest.skip(f"npm cannot install {' '.join(PACKAGES)}: {done.stderr[-300:]}")
    return folder


@pytest.mark.clients
async def test_node_receives_and_resumes(server: NatsNode, tmp_path: Path, node_packages: Path) -> None:
    durable = node_packages / "subscribe.mjs"
    durable.write_text(PROGRAMS[NODE])
    # The document says how the ordered one differs.
    added = re.compile(r"^const manager = .*?^\}\);\n", re.MULTILINE | re.DOTALL)
    ordered = added.sub("", PROGRAMS[NODE]).replace(', "dashboard")', ")").replace("  message.ack();\n", "")
    (node_packages / "ordered.mjs").write_text(ordered.replace("AckPolicy, ", "").replace(", jetstreamManager", ""))
    commands = {NODE: ["node", str(durable)], ORDERED: ["node", str(node_packages / "ordered.mjs")]}
    await receives_and_resumes(commands, server, tmp_path)
