"""Which port of the embedded stack is whose: all of them follow from KEYFORGE_PORT_BASE."""

import errno
import socket
from dataclasses import dataclass
from typing import Final

from keyforge.contracts.members import PORT_BASE_DEFAULT, PORTS
from keyforge.embedded.errors import SettingError, StackError

HOST: Final = "127.0.0.1"
SPAN: Final = PORTS[-1].offset
"""The last port is base + SPAN."""
DIGITS_MAX: Final = 9
"""Of a number in a variable: Python refuses to read more than 4300 digits, with an error of its own."""


@dataclass(frozen=True, slots=True)
class PortPlan:
    """The ports of one stack, by their names in ready.json."""

    base: int

    def of(self, name: str) -> int:
        """Return a port. Raises KeyError for a name that is not in the table of members."""
        return {port.name: self.base + port.offset for port in PORTS}[name]

    def address(self, name: str) -> str:
        """Return "127.0.0.1:<port>"."""
        return f"{HOST}:{self.of(name)}"

    def uses(self) -> dict[str, int]:
        """Return each port by what it is for, as an error message names it."""
        return {port.use: self.base + port.offset for port in PORTS}


def plan(base: str) -> PortPlan:
    """Read KEYFORGE_PORT_BASE; empty means the default. Raises SettingError."""
    text = base.strip() or str(PORT_BASE_DEFAULT)
    digits = text.isascii() and text.isdigit() and len(text) <= DIGITS_MAX
    if not digits or not 1 <= int(text) <= 65535 - SPAN:
        raise SettingError(f"KEYFORGE_PORT_BASE must be a number from 1 to {65535 - SPAN}, not {base!r}")
    return PortPlan(int(text))


def taken(port: int) -> OSError | None:
    """Return why a loopback port cannot be listened on right now, or None."""
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
