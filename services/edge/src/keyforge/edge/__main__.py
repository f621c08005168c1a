"""Runs the edge: `python -m keyforge.edge`, configured by KEYFORGE_* variables."""

import sys

from pydantic import ValidationError

from keyforge.edge.settings import EdgeSettings
from keyforge.eventlog.log import EventLogError
from keyforge.runtime import logs
from keyforge.runtime.encryption import EncryptionError
from keyforge.runtime.serve import run


def main() -> int:
    """Read the settings and run; 2 for settings that cannot be used."""
    try:
        settings = EdgeSettings()  # type: ignore[call-arg]  # from the environment
    except ValidationError as wrong:
        for error in wrong.errors(include_input=False, include_url=False):
            print(f"edge: KEYFORGE_{'_'.join(map(str, error['loc'])).upper()}: {error['msg']}", file=sys.stderr)  # noqa: T201 - before any log
        return 2
    logs.configure(settings.instance, settings.log_level)

    from keyforge.edge.app import main as serve_edge

    try:
        return run(serve_edge(settings))
    except (EventLogError, EncryptionError) as wrong:
        logs.get("edge").critical("cannot start", error=str(wrong))
        return 1


if __name__ == "__main__":
    sys.exit(main())
