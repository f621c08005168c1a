"""Loopback ports for the servers of tests, never handed out twice: neither by this process nor by any other.

Ports are in blocks below those that the kernel uses for outgoing connections. A process owns a block by keeping its
last port bound. That ends with the process, however it ends, so there is nothing to clean up.
"""

import secrets
import socket
import threading
from typing import Final

BLOCK: Final = 25
BLOCKS: Final = range(10_000, 32_000, BLOCK)
BLOCKS_TRIED_MAX: Final = 100

_spare: list[int] = []
_lock = threading.Lock()


class NoPorts(RuntimeError):
    """No block of ports was free."""


def free_port_base() -> int:
    """Claim a block for this process and return its first port; all but the last may be used."""
    for _ in range(BLOCKS_TRIED_MAX):
        base = secrets.choice(BLOCKS)
        guard = _bound(base + BLOCK - 1)
        if guard is None:
            continue
        if all(_free(port) for port in range(base, base + BLOCK - 1)):
            guard.detach()  # stays open until the process ends
            return base
        guard.close()
    raise NoPorts(f"{BLOCKS_TRIED_MAX} blocks of ports tried, none is free")


def free_ports(count: int) -> list[int]:
    """Claim `count` different ports for this process."""
    with _lock:
        while len(_spare) < count:
            base = free_port_base()
            _spare.extend(range(base, base + BLOCK - 1))
        taken = _spare[:count]
        del _spare[:count]
        return taken


def _free(port: int) -> bool:
    probe = _bound(port)
    if probe is not None:
        probe.close()
    return probe is not None


def _bound(port: int) -> socket.socket | None:
    """Return a socket that is bound to a port, None if the port is in use."""
    probe = socket.socket()
    try:
        probe.bind(("127.0.0.1", port))
    except OSError:
        probe.close()
        return None
    return probe
