"""Tells the operator when a service that runs reports something: that it is not ready, or details beside its checks;
and when space on the disk is short."""

from collections.abc import Callable, Iterable
from typing import Final

from keyforge.contracts import members
from keyforge.embedded import probe
from keyforge.embedded.disk import DiskWatch
from keyforge.embedded.services import Service
from keyforge.eventlog.retry import repeating

WATCH_EVERY_S: Final = 10.0
"""Between two questions to each service. Precedent: the kubelet's default for a probe (periodSeconds)."""


async def watch(services: Callable[[], Iterable[Service]], report: Callable[[str], None], disk: DiskWatch) -> None:
    """Report what each of these services says of itself whenever that changes, and `disk`, until cancelled."""
    shown: dict[str, str] = {}

    async def look() -> None:
        for service in services():
            status, body = await probe.get(service.port, service.path)
            if status == 0:  # one that has ended is reported by what starts it again
                continue
            condition = probe.condition(status, body)
            if condition != shown.get(service.name, ""):
                report(f"{service.name}: {condition or 'healthy again'}")
            shown[service.name] = condition
            if service.name == members.NATS:
                _, varz = await probe.get(service.port, "/varz")
                disk.look(varz)

    def failed(fault: Exception) -> None:
        report(f"services could not be looked at: {fault!r}")

    await repeating(look, pause_s=lambda: WATCH_EVERY_S, failed=failed)
