"""Tells the operator when a service that runs reports something: that it is not ready, or details beside its checks."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from keyforge.embedded import probe
from keyforge.embedded.services import Service

WATCH_EVERY_S: Final = 10.0
"""Between two questions to each service. Precedent: the kubelet's default for a probe (periodSeconds)."""


async def watch(services: Callable[[], Iterable[Service]], report: Callable[[str], None]) -> None:
    """Report what each of these services says of itself whenever that changes, until cancelled."""
    shown: dict[str, str] = {}
    while True:
        for service in services():
            status, body = await probe.get(service.port, service.path)
            if status == 0:  # one that has ended is reported by what starts it again
                continue
            condition = probe.condition(status, body)
            if condition != shown.get(service.name, ""):
                report(f"{service.name}: {condition or 'healthy again'}")
            shown[service.name] = condition
        await asyncio.sleep(WATCH_EVERY_S)
