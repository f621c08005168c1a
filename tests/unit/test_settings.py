"""The table of variables is what settings classes and tools read, and what docs/settings.md has."""

import importlib
import re
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import pytest

from keyforge.contracts import members, variables
from keyforge.contracts.meta import SECRETS
from keyforge.contracts.variables import CLI, DECLARE, KNOWN, PREFIX, READ_BY, SERVICE, TESTS, UP
from keyforge.embedded.declare import made_with_from
from keyforge.embedded.errors import SettingError
from keyforge.runtime.settings import ServiceSettings

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "settings.md").read_text()
NAME = re.compile(r"KEYFORGE_[A-Z0-9_]+")
NO_VARIABLE = {
    "KEYFORGE_X": "a name in a message of a test",
    "KEYFORGE_NATS_PASSWORD_": "the beginning of the names of users' passwords",
}
ODD = "tests/unit/test_contracts_variables.py", "tests/unit/test_cli_values.py", "tests/integration/setting_faults.py"
"""Files whose subject is names that are none of ours."""
READERS = {
    UP: ["libs/embedded"],
    DECLARE: ["libs/embedded"],
    CLI: ["libs/cli", "libs/embedded"],
    TESTS: ["tests", "libs/testkit"],
}


def settings_of(service: str) -> type[ServiceSettings]:
    module = importlib.import_module(f"keyforge.{service}.settings")
    (found,) = (one for one in ServiceSettings.__subclasses__() if one.__module__ == module.__name__)
    return found


def texts(*folders: str) -> Iterator[tuple[str, str]]:
    """Every file that may read or set a variable."""
    for folder in folders:
        found = [ROOT / folder] if (ROOT / folder).is_file() else (ROOT / folder).rglob("*")
        for path in found:
            if (
                path.is_file()
                and "__pycache__" not in path.parts
                and path.suffix in {"", ".py", ".yaml", ".yml", ".conf", ".sh"}
            ):
                yield path.relative_to(ROOT).as_posix(), path.read_text("utf-8", "replace")


@pytest.mark.parametrize("service", members.SERVICES)
def test_a_service_s_settings_are_in_the_table(service: str) -> None:
    shared = {name.upper() for name in ServiceSettings.model_fields}
    assert set(READ_BY[SERVICE]) == shared
    assert set(READ_BY[service]) == {name.upper() for name in settings_of(service).model_fields} - shared


def test_nothing_else_reads_or_sets_a_variable_that_is_not_in_it() -> None:
    everywhere = texts("libs", "services", "tests", "deploy", ".ci", ".github", "taskw", "Taskfile.yml", "compose.yaml")
    found = {name: path for path, text in everywhere if path not in ODD for name in NAME.findall(text)}
    assert {name: path for name, path in found.items() if name not in KNOWN} == {
        name: found.get(name) for name in NO_VARIABLE
    }


@pytest.mark.parametrize("reader", READERS)
def test_what_the_table_says_of_a_tool_is_read_there(reader: str) -> None:
    text = "".join(text for _, text in texts(*READERS[reader], "libs/contracts/src/keyforge/contracts/meta.py"))
    of_services = {f"{PREFIX}{name.upper()}_URL" for name in members.SERVICES}
    names = {PREFIX + name.removesuffix(variables.FINGERPRINT) for name in READ_BY[reader]} - of_services
    assert names <= set(NAME.findall(text))


def rows() -> Iterator[tuple[str, str, str]]:
    """Each row of the page: whose part it is in, the variable, the default."""
    for part in PAGE.split("\n## ")[1:]:
        title = part.partition("\n")[0].lower()
        yield from ((title, *row) for row in re.findall(r"^\| `(KEYFORGE_\w+)` \| (.*?) \|", part, re.MULTILINE))


def test_the_page_has_each_variable_at_each_of_its_readers() -> None:
    assert [(title, name) for title, name, _ in rows()] == [
        (reader, PREFIX + name) for reader, names in READ_BY.items() for name in names
    ]


def shown(service: str, name: str) -> str:
    """The default of a setting as the page has it."""
    info = settings_of(service).model_fields[name.removeprefix(PREFIX).lower()]
    if info.is_required():
        return "required"
    default = info.default.get_secret_value() if hasattr(info.default, "get_secret_value") else info.default
    return "-" if default in {"", None} else f"`{default}`"


def test_the_page_has_the_defaults_of_the_settings() -> None:
    for title, name, default in rows():
        if title in members.SERVICES:
            assert default == shown(title, name), name
        elif title == SERVICE:
            each = {service: shown(service, name) for service in members.SERVICES}
            same = set(each.values())
            own = ", ".join(f"{value} ({service})" for service, value in each.items() if value != "-")
            assert default == (same.pop() if len(same) == 1 else own), name


def test_the_services_listen_where_the_table_of_members_has_them() -> None:
    ports = {name: members.PORT_BASE_DEFAULT + members.process_of(name).ports[0].offset for name in members.SERVICES}
    assert {name: settings_of(name).model_fields["port"].default for name in members.SERVICES} == ports


def test_kubernetes_makes_none_of_our_names(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not [name for name in KNOWN if variables.is_service_link(name, "")]
    for name in chain(READ_BY[SERVICE], READ_BY[members.BUDGET]):
        monkeypatch.delenv(PREFIX + name, raising=False)
    monkeypatch.setenv("KEYFORGE_PORT", "tcp://10.0.0.1:8080")
    monkeypatch.setenv("KEYFORGE_KEY_SECRET", "0b" * 32)
    monkeypatch.setenv("keyforge_abandon_grace_s", "77")
    settings = settings_of(members.BUDGET)()  # type: ignore[call-arg]  # from the environment
    assert (settings.port, settings.model_dump()["abandon_grace_s"]) == (8082, 10.0)


HEX = "0b" * 32
OWN = {
    members.EDGE: ("EDGE_PRIVATE_KEY", "COMMITMENT_SECRET"),
    members.BUDGET: (),
    members.KEYS: ("EDGE_PUBLIC_KEY", "COMMITMENT_SECRET"),
    members.AUDIT: ("AUDIT_MASTER_KEY", "COMMITMENT_SECRET"),
}
"""The secrets of a service, all of them hex, besides the root secret of keys."""


def of_environment(
    service: str, monkeypatch: pytest.MonkeyPatch, around: Callable[[str], str]
) -> tuple[dict[str, object], dict[str, int | str]]:
    """The settings of a service whose secrets are all changed, and what it knows of the log."""
    for name in ("KEY_SECRET", *OWN[service]):
        monkeypatch.setenv(PREFIX + name, around(HEX))
    monkeypatch.setenv("KEYFORGE_NATS_PASSWORD", around("two words"))
    if service == members.AUDIT:
        monkeypatch.setenv("KEYFORGE_CLICKHOUSE_URL", around("http://u:p@h:1/d"))
        monkeypatch.setenv("KEYFORGE_CLICKHOUSE_PASSWORD", around("p"))
    settings = settings_of(service)()  # type: ignore[call-arg]  # from the environment
    return settings.model_dump(), settings.made_with()


@pytest.mark.parametrize("service", members.SERVICES)
def test_white_space_around_a_secret_is_not_part_of_it(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One from a file ends in a newline."""
    plain = of_environment(service, monkeypatch, lambda text: text)
    assert of_environment(service, monkeypatch, lambda text: f" {text}\r\n") == plain


@pytest.mark.parametrize(("service", "name"), [(one, name) for one in OWN for name in ("KEY_SECRET", *OWN[one])])
def test_white_space_within_a_secret_in_hex_is_refused(
    service: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_environment(service, monkeypatch, lambda text: text)
    monkeypatch.setenv(PREFIX + name, f"{HEX[:2]} {HEX[2:]}")
    with pytest.raises(ValueError, match=r"in hex|hex of"):
        settings_of(service)()  # type: ignore[call-arg]  # from the environment


def test_declare_reads_secrets_as_the_services_do() -> None:
    secrets = dict.fromkeys(SECRETS.values(), HEX)
    plain = made_with_from(secrets)
    assert made_with_from({name: f" {value}\n" for name, value in secrets.items()}) == plain
    fingerprints = {f"{variable}_FINGERPRINT": f"{getattr(plain, name)}\n" for name, variable in SECRETS.items()}
    assert made_with_from(fingerprints) == plain
    with pytest.raises(SettingError, match="in hex"):
        made_with_from(secrets | {"KEYFORGE_KEY_SECRET": f"{HEX[:2]} {HEX[2:]}"})
