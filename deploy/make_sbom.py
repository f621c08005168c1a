"""Prints the bill of the image's materials (CycloneDX): our members, each package of image.lock, and who needs what.

python deploy/make_sbom.py VERSION SECONDS_SINCE_1970
"""

import re
import sys
import tomllib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "deploy" / "image.lock"
SHIPPED = ("libs/cli", "services/*")
"""Members that the image is asked for; what they need of the others comes with them."""
ENTRY = re.compile(r"^([a-z0-9._-]+)==([^\s;]+)(?: *; *([^\\\n]*\S))? *\\\n((?: .*\n?)*)", re.MULTILINE)


@dataclass(frozen=True)
class Locked:
    """One entry of a lock file."""

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]
    needed_by: tuple[str, ...]


def locked(text: str) -> Iterator[Locked]:
    """Every entry of a lock file as uv writes it, with the `via` comments that follow it."""
    for name, version, marker, rest in ENTRY.findall(text):
        via = re.findall(r"^ +# +(?:via +)?([a-z0-9._-]+)$", rest, re.MULTILINE)
        needed_by = tuple(one for one in via if one != "via")
        yield Locked(name, version, marker, tuple(re.findall(r"sha256:([0-9a-f]{64})", rest)), needed_by)


def members() -> dict[str, set[str]]:
    """The members in the image, each with the members that it needs."""
    tables = [tomllib.loads(path.read_text())["project"] for path in ROOT.glob("*/*/pyproject.toml")]
    needs = {table["name"]: set(re.findall(r"keyforge-[a-z]+", " ".join(table["dependencies"]))) for table in tables}
    found: dict[str, set[str]] = {}
    left = {
        tomllib.loads(path.read_text())["project"]["name"]
        for pattern in SHIPPED
        for path in ROOT.glob(f"{pattern}/pyproject.toml")
    }
    while left:
        name = left.pop()
        found[name] = needs[name]
        left |= needs[name] - set(found)
    return found


def of_image(version: str, at: int) -> str:
    """CycloneDX 1.6 as JSON; `at` is the time that it carries, in seconds since 1970."""
    image = Component(
        type=ComponentType.CONTAINER, name="keyforge", version=version, bom_ref="keyforge", licenses=(), purl=None
    )
    ours = {
        name: Component(
            type=ComponentType.APPLICATION,
            name=name,
            version=version,
            bom_ref=f"{name}@{version}",
            purl=PackageURL("pypi", name=name, version=version),
        )
        for name in members()
    }
    entries = list(locked(LOCK.read_text()))
    theirs = {entry: _component(entry) for entry in entries}
    bom = Bom(
        components=[*ours.values(), *theirs.values()],
        serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"keyforge {version} {at} {LOCK.read_text()}"),
    )
    bom.metadata.component = image
    bom.metadata.timestamp = datetime.fromtimestamp(at, tz=UTC)
    bom.register_dependency(image, ours.values())
    for name, needed in members().items():
        theirs_of_it = [theirs[entry] for entry in entries if name in entry.needed_by]
        bom.register_dependency(ours[name], [*(ours[one] for one in needed), *theirs_of_it])
    for entry in entries:
        bom.register_dependency(theirs[entry], [theirs[one] for one in entries if entry.name in one.needed_by])
    return JsonV1Dot6(bom).output_as_string(indent=2) + "\n"


def _component(entry: Locked) -> Component:
    """A package; its hashes are those of each file that the lock lets in."""
    return Component(
        type=ComponentType.LIBRARY,
        name=entry.name,
        version=entry.version,
        bom_ref=f"{entry.name}@{entry.version}",
        purl=PackageURL("pypi", name=entry.name, version=entry.version),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=content) for content in entry.hashes],
        description=f"installed where {entry.marker}" if entry.marker else None,
    )


def main() -> None:
    """Writes it to standard output."""
    version, at = sys.argv[1:]
    sys.stdout.write(of_image(version, int(at)))


if __name__ == "__main__":
    main()
