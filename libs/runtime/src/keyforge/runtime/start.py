"""How every service starts: settings read, the log found durable and its own, and what is wrong said in one line."""

import sys
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from keyforge.eventlog.durability import require_durable
from keyforge.eventlog.jetstream import JetStreamLog
from keyforge.eventlog.log import EventLogError
from keyforge.eventlog.meta import WrongLog, require_same
from keyforge.runtime import bus, logs, serve
from keyforge.runtime.bus import Bus
from keyforge.runtime.settings import ServiceSettings

S = TypeVar("S", bound=ServiceSettings)

CANNOT_RUN: Final = 1
"""A fault that starting again may overcome."""
MISCONFIGURED: Final = 2
"""Settings, or a log that was made with others: starting again changes nothing."""


def start(
    name: str,
    settings: type[S],
    main: Callable[[S], Coroutine[Any, Any, int]],
    *,
    faults: tuple[type[Exception], ...] = (),
) -> int:
    """Read the settings and run `main` until it ends; return the exit code.

    What is in the way is one line: on stderr for settings, in the log for all else. `faults` are the service's own.
    """
    try:
        found = settings()  # type: ignore[call-arg]  # the environment has them
    except ValidationError as error:
        for wrong in error.errors(include_input=False, include_url=False):
            variable = f"KEYFORGE_{'_'.join(map(str, wrong['loc'])).upper()}"
            sys.stderr.write(f"{name}: {variable}: {wrong['msg'].removeprefix(f'Value error, {variable} ')}\n")
        return MISCONFIGURED
    logs.configure(name, found.log_level)
    cannot_run: tuple[type[Exception], ...] = (EventLogError, OSError, *faults)
    try:
        return serve.run(main(found))
    except WrongLog as error:
        logs.get(name).error("cannot run", error=str(error))
        return MISCONFIGURED
    except cannot_run as error:
        logs.get(name).error("cannot run", error=str(error) or type(error).__name__)
        return CANNOT_RUN


async def connect(settings: ServiceSettings) -> Bus:
    """Connect to a log that fsyncs and was made with these settings. Raises NotDurable, WrongLog, LogMissing."""
    await require_durable(settings.nats_monitor_url.split(","), relaxed=settings.durability == "relaxed")
    connection = await bus.connect(settings)
    try:
        await require_same(JetStreamLog(connection.nats), settings.made_with())
    except BaseException:
        await connection.close()
        raise
    return connection
