"""How every service starts: settings read, the log found durable and its own, and what is wrong said in one line."""

import os
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final, NamedTuple, TypeVar

from pydantic import ValidationError

from keyforge.contracts import variables
from keyforge.eventlog.durability import require_durable
from keyforge.eventlog.jetstream import JetStreamLog
from keyforge.eventlog.log import EventLogError
from keyforge.eventlog.meta import require_same
from keyforge.runtime import bus, logs, serve
from keyforge.runtime.bus import Bus
from keyforge.runtime.serve import CannotListenError
from keyforge.runtime.settings import ServiceSettings

S = TypeVar("S", bound=ServiceSettings)

CANNOT_START: Final = 2
"""The exit code of every fault at a start: a setting, a port, the log or another dependency is for a person to mend.
What goes wrong once a service serves ends it with `serve.FAILED`."""


def start(
    name: str,
    settings: type[S],
    main: Callable[[S], Coroutine[Any, Any, int]],
    *,
    faults: tuple[type[Exception], ...] = (),
) -> int:
    """Read the settings and run `main` until it ends; return the exit code.

    What prevents a start is one line on stderr, for settings in plain text, for all else as a line of the log.
    `faults` are the service's own.
    """
    if (strange := variables.unknown(os.environ)) is not None:
        sys.stderr.write(f"{name}: {strange}\n")
        return CANNOT_START
    try:
        found = settings()  # type: ignore[call-arg]  # the environment has them
    except ValidationError as error:
        sys.stderr.write(f"{name}: {logs.redact('; '.join(_wrong(error)))}\n")
        return CANNOT_START
    logs.configure(name, found.log_level)
    cannot_start: tuple[type[Exception], ...] = (CannotListenError, EventLogError, OSError, *faults)
    try:
        for one in serve.listen(found.host, found.port):
            one.close()  # it is not needed yet, but where it is taken nothing need begin
        return serve.run(main(found))
    except cannot_start as error:
        logs.get(name).error("cannot start", error=str(error) or type(error).__name__)
        return CANNOT_START


def _wrong(error: ValidationError) -> Iterator[str]:
    """Yield for each setting that is wrong its variable and what is allowed."""
    for wrong in error.errors(include_input=False, include_url=False):
        variable = f"{variables.PREFIX}{'_'.join(map(str, wrong['loc'])).upper()}"
        why = wrong["msg"].removeprefix("Value error, ").removeprefix(f"{variable} ")
        yield f"{variable}: {why}" if wrong["loc"] else why


class Connected(NamedTuple):
    """The way to a log, and how many partitions it has: what `KF_META` says, not what a setting does."""

    bus: Bus
    partitions: int


async def connect(settings: ServiceSettings) -> Connected:
    """Connect to a log that fsyncs and was made with these settings.

    Raises NotDurable, AccessRefused, WrongLog, LogMissing.
    """
    monitors = settings.nats_monitor_url.split(",") if settings.nats_monitor_url else []
    await require_durable(monitors, relaxed=settings.durability == "relaxed")
    connection = await bus.connect(settings)
    try:
        made_with = await require_same(JetStreamLog(connection.nats), settings.made_with())
    except BaseException:
        await connection.close()
        raise
    return Connected(connection, made_with.partitions)
