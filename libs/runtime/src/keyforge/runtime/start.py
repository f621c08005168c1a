"""How every service starts: settings read, the log found durable and its own, and what is wrong said in one line.

What is not there yet is waited for, without a bound, and said in one line as well: a server, its leader, the streams.
"""

import os
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final, NamedTuple, TypeVar

from pydantic import ValidationError

from keyforge.contracts import variables
from keyforge.eventlog.durability import Durability
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
REASONS_MAX: Final = 8
"""Different reasons of one wait that are logged. Chosen: a start meets two or three: no leader, no answer, no log."""


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
    if (wrong := variables.unknown(os.environ) or variables.not_text(os.environ)) is not None:
        sys.stderr.write(f"{name}: {wrong}\n")
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
    """Connect to a log that fsyncs and was made with these settings; wait for what of it is not there yet.

    Raises NotDurable, AccessRefused, TlsRefused, WrongLog.
    """
    logger = logs.get("start")
    durability: Durability | None = None
    if settings.durability == "relaxed":
        logger.warning("KEYFORGE_DURABILITY=relaxed: a power cut may lose what the log has acknowledged")
    else:
        monitors = [url.strip() for url in settings.nats_monitor_url.split(",") if url.strip()]
        durability = Durability(monitors, logger.warning)
    connection = (await bus.connect(settings))._replace(durability=durability)
    try:
        if durability is not None:
            await durability.established(connection.servers)
        made_with = await require_same(JetStreamLog(connection.nats), settings.made_with(), waiting())
    except BaseException:
        await connection.close()
        raise
    if durability is not None:
        durability.watch()
    return Connected(connection, made_with.partitions)


def waiting() -> Callable[[Exception], None]:
    """Return what takes the fault of each attempt that failed, and logs each different reason once."""
    logger, reported = logs.get("start"), set[str]()

    def failed(fault: Exception) -> None:
        if (why := str(fault) or type(fault).__name__) not in reported and len(reported) < REASONS_MAX:
            reported.add(why)
            logger.warning("waiting for the log", why=why)

    return failed
