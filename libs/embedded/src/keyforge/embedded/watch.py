"""Tells the operator when a service that runs reports something: that it is not ready, or details beside its checks;
when one does not answer at all; and when space on the disk is short."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from keyforge.contracts import members
from keyforge.embedded import probe
from keyforge.embedded.disk import DiskWatch
from keyforge.embedded.services import Service
from keyforge.eventlog.retry import repeating

WATCH_EVERY_S: Final = 10.0
"""Between two questions to each service. Precedent: the kubelet's default for a probe (periodSeconds)."""
UNANSWERED_MAX: Final = 2
"""Questions in a row that a service which runs may leave unanswered until it is reported. Chosen: a machine that is
busy for 2 s makes it miss one; with two of them one that hangs is reported after 26 s at most."""


async def watch(
    services: Callable[[], Iterable[Service]],
    report: Callable[[str], None],
    disk: DiskWatch,
    shown: dict[str, str] | None = None,
) -> None:
    """Report what each of these services says of itself whenever that changes, and `disk`, until cancelled.

    `services` returns those whose process runs and that were healthy since it began: the others are reported by what
    starts them. `shown` is what was last reported of each; who starts one again removes its entry.
    """
    shown = {} if shown is None else shown
    unanswered: dict[str, int] = {}

    async def look() -> None:
        nonlocal unanswered
        disk.look(None)  # before all else: a full disk may be why nobody answers
        asked = list(services())
        answers = await asyncio.gather(*(probe.get(service.port, service.path) for service in asked))
        running = list(services())
        counted: dict[str, int] = {}
        for service, (status, body) in zip(asked, answers, strict=True):
            if service not in running:  # it ended meanwhile, which is reported by what starts it again
                continue
            counted[service.name] = 0 if status else unanswered.get(service.name, 0) + 1
            if 0 < counted[service.name] < UNANSWERED_MAX:
                continue
            condition = probe.condition(status, body)
            if condition != shown.get(service.name, ""):
                report(f"{service.name}: {condition or 'healthy again'}")
            shown[service.name] = condition
        unanswered = counted
        for nats in (service for service in asked if service.name == members.NATS):
            _, varz = await probe.get(nats.port, "/varz")
            disk.look(varz)

    def failed(fault: Exception) -> None:
        report(f"services could not be looked at: {fault!r}")

    await repeating(look, pause_s=lambda: WATCH_EVERY_S, failed=failed)
