"""Which port of the embedded stack is whose: all of them follow from KEYFORGE_PORT_BASE."""

import errno
import socket
from dataclasses import dataclass
from typing import Final

from keyforge.embedded.errors import SettingError, StackError

HOST: Final = "127.0.0.1"
BASE_DEFAULT: Final = 8080
SPAN: Final = 20
"""The last port is base + SPAN."""
DIGITS_MAX: Final = 9
"""Of a number in a variable: Python refuses to read some thousands with an error of its own."""


@dataclass(frozen=True, slots=True)
class PortPlan:
    """The ports of one stack."""

    base: int

    @property
    def edge(self) -> int:
        return self.base

    @property
    def keys(self) -> int:
        return self.base + 1

    @property
    def budget(self) -> int:
        return self.base + 2

    @property
    def audit(self) -> int:
        return self.base + 3

    @property
    def clickhouse(self) -> int:
        """ClickHouse's HTTP interface, served by audit. base + 4 is the console's."""
        return self.base + 5

    @property
    def nats(self) -> int:
        return self.base + 10

    @property
    def nats_monitor(self) -> int:
        return self.base + 11

    @property
    def simulator(self) -> int:
        return self.base + 20

    def uses(self) -> dict[str, int]:
        """Return what each port is for, in the words of an error message."""
        return {
            "edge": self.edge,
            "keys": self.keys,
            "budget": self.budget,
            "audit": self.audit,
            "ClickHouse-HTTP": self.clickhouse,
            "NATS": self.nats,
            "NATS monitoring": self.nats_monitor,
            "simulator": self.simulator,
        }


def plan(base: str) -> PortPlan:
    """Read KEYFORGE_PORT_BASE; empty means the default. Raises SettingError."""
    text = base.strip() or str(BASE_DEFAULT)
    digits = text.isascii() and text.isdigit() and len(text) <= DIGITS_MAX
    if not digits or not 1 <= int(text) <= 65535 - SPAN:
        raise SettingError(f"KEYFORGE_PORT_BASE must be a number from 1 to {65535 - SPAN}, not {base!r}")
    return PortPlan(int(text))


def taken(port: int) -> OSError | None:
    """Return why nobody can listen on a loopback port right now, or None."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError as error:
            return error
    return None


def check_free(ports: PortPlan) -> None:
    """Raise StackError naming the ports that cannot be had, and what they are for."""
    refused = {use: error for use, port in ports.uses().items() if (error := taken(port))}
    if not refused:
        return
    named = ", ".join(f"{ports.uses()[use]} ({use})" for use in refused)
    if all(error.errno == errno.EADDRINUSE for error in refused.values()):
        many = "ports are" if len(refused) > 1 else "port is"
        raise StackError(f"{many} in use by another program: {named}; set KEYFORGE_PORT_BASE to move all ports")
    reason = next(iter(refused.values())).strerror
    raise StackError(f"cannot listen on {named}: {reason}; set KEYFORGE_PORT_BASE to move all ports")
