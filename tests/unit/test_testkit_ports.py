"""Ports for tests' servers: no two processes are given the same, and what one had is free when it has ended."""

import socket
import subprocess
import sys

from keyforge.testkit import ports

ANOTHER = """
import sys
from keyforge.testkit import ports
print(*ports.free_ports(200), flush=True)
sys.stdin.read()
"""


def another() -> "subprocess.Popen[str]":
    """A process that claims ports and holds them until its input ends."""
    return subprocess.Popen([sys.executable, "-c", ANOTHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def claimed(process: "subprocess.Popen[str]") -> list[int]:
    assert process.stdout is not None
    return [int(port) for port in process.stdout.readline().split()]


def test_no_port_is_given_twice() -> None:
    with another() as one, another() as two:
        found = [*claimed(one), *claimed(two), *ports.free_ports(100), *ports.free_ports(100)]
    assert len(found) == len(set(found)) == 600


def test_a_block_is_claimed_while_its_owner_runs_and_no_longer() -> None:
    with another() as owner:
        guards = {port - port % ports.BLOCK + ports.BLOCK - 1 for port in claimed(owner)}
        assert not any(map(bindable, guards))
        owner.kill()
    assert all(map(bindable, guards))


def bindable(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
