"""Makes uv.lock from the lock files that are kept, so that a clean checkout resolves again to the versions it has."""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ("requirements.lock", "deploy/tools.lock")
ENTRY = re.compile(r"^[a-z0-9._-]+==[^\s;]+( *;[^\\\n]*)?", re.MULTILINE)


def constraints() -> list[str]:
    """Every locked version as a requirement, with the marker it is locked under."""
    return sorted({match[0].strip() for lock in LOCKS for match in ENTRY.finditer((ROOT / lock).read_text())})


def main() -> None:
    """Resolves a copy of the workspace that is held to the locked versions; what is new there is resolved freely."""
    uv, *arguments = sys.argv[1:]
    if (ROOT / "uv.lock").exists() or "--upgrade" in arguments:
        return
    listed = ", ".join(f"'''{one}'''" for one in constraints())
    with tempfile.TemporaryDirectory() as folder:
        for project in (ROOT / "pyproject.toml", *ROOT.glob("*/*/pyproject.toml")):
            copy = Path(folder) / project.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(project, copy)
        top = Path(folder) / "pyproject.toml"
        top.write_text(top.read_text().replace("[tool.uv]\n", f"[tool.uv]\nconstraint-dependencies = [{listed}]\n"))
        done = subprocess.run((uv, "lock", "--project", folder), check=False)  # noqa: S603
        if done.returncode:
            sys.exit("lock: take what no longer fits out of requirements.lock, or say `./taskw lock -- --upgrade`")
        shutil.copy(Path(folder) / "uv.lock", ROOT)


if __name__ == "__main__":
    main()
