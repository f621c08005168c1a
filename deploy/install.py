"""Installs what taskw needs into this checkout: tools into .venv-tool, locked packages and members into .venv.

Standard library only, since it runs before anything is installed. `taskw` calls it with a stamp of everything that
decides the outcome, and the stamp is written last: an interrupted installation is done again, never believed.
"""

import fcntl
import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
TOOLS = ROOT / ".venv-tool"
STAMP = VENV / "installed.stamp"


def run(*command: str | Path) -> None:
    """Runs one step with its output on stderr; its failure ends the installation with one line."""
    environment = {name: value for name, value in os.environ.items() if name not in {"VIRTUAL_ENV", "PYTHONPATH"}}
    if index := mirror():
        environment.setdefault("UV_DEFAULT_INDEX", index)
    try:
        subprocess.run([str(part) for part in command], cwd=ROOT, env=environment, stdout=sys.stderr, check=True)  # noqa: S603
    except (subprocess.CalledProcessError, OSError) as fault:
        step = " ".join(Path(str(part)).name for part in command[:3])
        sys.exit(f"taskw: installation failed at `{step}` ({fault.__class__.__name__}); see the lines above")


@functools.cache
def mirror() -> str:
    """The package index that pip is set to, so that a site's mirror is named once; empty for the public one."""
    pip = (sys.executable, "-m", "pip", "config", "get", "global.index-url")
    asked = subprocess.run(pip, capture_output=True, text=True, check=False)  # noqa: S603
    return os.environ.get("PIP_INDEX_URL", "") or asked.stdout.strip()


def series(venv: Path) -> str:
    """The Python version a venv was made with, empty if there is none or it no longer starts."""
    python = venv / "bin" / "python"
    if not python.exists():
        return ""
    ask = (python, "-c", "import sys; print(sys.version)")
    asked = subprocess.run(ask, capture_output=True, text=True, check=False)  # noqa: S603
    return asked.stdout.strip()


def made_here(venv: Path) -> bool:
    """Whether a venv was made where it lies: the programs of one that was moved or copied begin with the old place's
    interpreter, and would run what is installed there."""
    try:
        return f"VIRTUAL_ENV='{venv}'" in (venv / "bin" / "activate").read_text()
    except OSError:
        return False


def install_tools() -> None:
    """uv and go-task, pinned with hashes in deploy/tools.lock, by the pip that comes with Python."""
    lock = ROOT / "deploy" / "tools.lock"
    stamp = TOOLS / "installed.stamp"
    wanted = f"{TOOLS}\n{sys.version}\n{lock.read_text()}"
    if stamp.exists() and stamp.read_text() == wanted and series(TOOLS):
        return
    print("taskw: installing uv and go-task", file=sys.stderr, flush=True)
    shutil.rmtree(TOOLS, ignore_errors=True)
    run(sys.executable, "-m", "venv", TOOLS)
    pip = (TOOLS / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    run(*pip, "--no-deps", "--only-binary=:all:", "--require-hashes", "-r", lock)
    stamp.write_text(wanted)


def install_packages() -> None:
    """The locked set, each file checked against its hash, then our members editable; what else is there stays."""
    uv = TOOLS / "bin" / "uv"
    print("taskw: installing the locked packages", file=sys.stderr, flush=True)
    if series(VENV) != sys.version or not made_here(VENV):
        run(uv, "venv", "--quiet", "--clear", "--python", sys.executable, VENV)
    pip = (uv, "pip", "install", "--quiet", "--python", VENV / "bin" / "python")
    run(*pip, "--require-hashes", "--no-deps", "--no-build", "--compile-bytecode", "-r", "requirements.lock")
    members = sorted(path.parent for path in ROOT.glob("*/*/pyproject.toml"))
    # uv holds the members' build backend itself, so this step needs no network.
    run(*pip, "--no-deps", "--offline", *(part for member in members for part in ("--editable", member)))


def main() -> None:
    """Installs, unless another call that held the lock before us has just done the same."""
    stamp = sys.argv[1]
    with (ROOT / ".taskw.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if STAMP.exists() and STAMP.read_text().strip() == stamp and series(VENV):
            return
        STAMP.unlink(missing_ok=True)
        install_tools()
        install_packages()
        STAMP.write_text(f"{stamp}\n")


if __name__ == "__main__":
    main()
