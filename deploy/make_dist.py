"""Makes what a release carries, without network: a wheel of every member and a bill of the image's materials.

    python deploy/make_dist.py UV FOLDER [TAG]

With a tag it is refused unless the tag is the version of every member and the changelog has a part about it, which
becomes the release's notes. The same commit makes the same bytes.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def refuse(why: str) -> None:
    sys.exit(f"dist: {why}")


def versions() -> dict[str, str]:
    """The version of the workspace and of every member, by folder."""
    files = (ROOT / "pyproject.toml", *sorted(ROOT.glob("*/*/pyproject.toml")))
    return {str(file.parent.relative_to(ROOT)): tomllib.loads(file.read_text())["project"]["version"] for file in files}


def notes(version: str) -> str:
    """What the changelog says of a version; empty if it says nothing."""
    found = re.search(rf"^## \[{re.escape(version)}\].*?\n(.*?)(?=^## \[|\Z)", changelog(), re.MULTILINE | re.DOTALL)
    return found[1].strip() if found else ""


def changelog() -> str:
    return (ROOT / "CHANGELOG.md").read_text()


def committed_at() -> int:
    """Seconds since 1970 of the commit that is checked out, or what the environment says it is."""
    if said := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(said)
    asked = ("git", "log", "-1", "--format=%ct")
    return int(subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout)  # noqa: S603


def main() -> None:
    """Makes the folder, in place of what was there."""
    uv, folder, *tag = sys.argv[1:]
    found = versions()
    version = found["."]
    if other := {where: said for where, said in found.items() if said != version}:
        refuse(f"the workspace is {version}, but {', '.join(f'{where} is {said}' for where, said in other.items())}")
    if tag and tag[0] != f"v{version}":
        refuse(f"the tag is {tag[0]}, the version {version}")
    if tag and not notes(version):
        refuse(f"CHANGELOG.md has no part about {version}")

    out = Path(folder).resolve()
    shutil.rmtree(out, ignore_errors=True)
    at = committed_at()
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(at)}
    build = (Path(uv).resolve(), "build", "--quiet", "--offline", "--python", sys.executable)
    subprocess.run((*build, "--all-packages", "--wheel", "--out-dir", out), cwd=ROOT, env=environment, check=True)  # noqa: S603
    (out / ".gitignore").unlink(missing_ok=True)
    with (out / f"keyforge-{version}.cdx.json").open("w") as bill:
        make = (sys.executable, ROOT / "deploy" / "make_sbom.py", version, str(at))
        subprocess.run(make, stdout=bill, check=True)  # noqa: S603
    if tag:
        (out / "NOTES.md").write_text(notes(version) + "\n")
    print(*sorted(path.name for path in out.iterdir()), sep="\n")


if __name__ == "__main__":
    main()
