"""The folder where the embedded stack keeps everything (KEYFORGE_HOME): layout, lock, secrets, ready.json.

lock                held while a supervisor runs on this home
secrets/<name>      mode 600 each, in a folder of mode 700
nats.conf           mode 600, written at every start
sizes.json          what the log may grow to: chosen at the first start, then only raised
nats/  clickhouse/  what the log and the engine store
logs/<service>.log  and <service>.log.1
seeded.json         mode 600; which credentials `up` made of providers' variables
ready.json          mode 600; exists only while everything is healthy and supervised
"""

import contextlib
import fcntl
import json
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from keyforge.embedded.errors import StackError

HOME_DEFAULT: Final = ".keyforge"
_MODE_FILE: Final = 0o600
_MODE_FOLDER: Final = 0o700


class Home:
    """One home. Creating the object touches no file."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.secrets = self.path / "secrets"
        self.nats_config = self.path / "nats.conf"
        self.sizes = self.path / "sizes.json"
        self.nats = self.path / "nats"
        self.clickhouse = self.path / "clickhouse"
        self.logs = self.path / "logs"
        self.ready = self.path / "ready.json"
        self.seeded = self.path / "seeded.json"
        self.lock = self.path / "lock"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Home":
        """Return the home that KEYFORGE_HOME names, or the default below the current folder."""
        return cls(Path(environment.get("KEYFORGE_HOME") or HOME_DEFAULT))

    def prepare(self) -> None:
        """Create the folders, private. Raises StackError for a home that cannot be used."""
        if "?" in str(self.path):  # ClickHouse's engine reads what follows as options, and stores elsewhere
            raise StackError(
                f"cannot use the home {self.path} (KEYFORGE_HOME): its path must not contain a question mark"
            )
        try:
            self.path.mkdir(mode=_MODE_FOLDER, parents=True, exist_ok=True)
            for folder in (self.secrets, self.nats, self.clickhouse, self.logs):
                folder.mkdir(mode=_MODE_FOLDER, exist_ok=True)
                if stat.S_IMODE(folder.stat().st_mode) & 0o077:
                    folder.chmod(_MODE_FOLDER)
                os.listdir(folder)
        except OSError as error:
            raise self._unusable(error) from error

    def has_log(self) -> bool:
        """Return whether the log of an earlier start is here: then its secrets must be here, too."""
        try:
            return any(self.nats.iterdir())
        except OSError:
            return False

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the home for one supervisor; the kernel releases it when the process ends, however it ends."""
        try:
            descriptor = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE_FILE)
        except OSError as error:
            raise self._unusable(error) from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.read(descriptor, 32).decode("ascii", "replace").strip()
                named = f" (process {holder})" if holder else ""
                raise StackError(f"another `keyforge up` runs on {self.path}{named}") from None
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def read_secret(self, name: str) -> str | None:
        """Return a secret's text, or None. Raises StackError if it exists and cannot be read."""
        try:
            text = (self.secrets / name).read_text("ascii").strip()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeError) as error:
            raise self._unusable(error) from error
        if not text:
            raise StackError(f"{self.secrets / name} is empty; restore it from a backup of this home")
        return text

    def write_secret(self, name: str, text: str) -> None:
        """Store a secret: complete and synced to disk, or not at all."""
        self.write(self.secrets / name, text + "\n")

    def write(self, path: Path, text: str) -> None:
        """Replace a private file atomically and durably. Raises StackError."""
        draft = path.with_name(path.name + ".new")
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _MODE_FILE)
            try:
                os.fchmod(descriptor, _MODE_FILE)
                with os.fdopen(descriptor, "w", encoding="utf-8", closefd=False) as file:
                    file.write(text)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            draft.replace(path)
            _sync_folder(path.parent)
        except OSError as error:
            raise self._unusable(error) from error

    def write_ready(self, facts: Mapping[str, Any]) -> None:
        """Write where everything is; only while all is healthy."""
        self.write(self.ready, json.dumps(facts, indent=2) + "\n")

    def remove_ready(self) -> None:
        """Remove it: the stack takes no more requests."""
        with contextlib.suppress(OSError):
            self.ready.unlink()

    def _unusable(self, error: Exception) -> StackError:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        place = error.filename if isinstance(error, OSError) and error.filename else self.path
        return StackError(f"cannot use the home {self.path} (KEYFORGE_HOME): {place}: {reason}")


def read_ready(path: Path) -> dict[str, Any] | None:
    """Return the content of ready.json, or None if no stack is ready on this home."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
