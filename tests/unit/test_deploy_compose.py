"""compose.yaml: valid by the specification, hardened, secret-free, and in the words that the services understand."""

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose
from compose_spec.models import ComposeSpecification

from keyforge.contracts import members, variables
from keyforge.contracts.subjects import PARTITIONS_DEFAULT
from keyforge.embedded.nats_config import container
from keyforge.runtime.settings import ServiceSettings

ROOT = Path(__file__).resolve().parents[2]
PARTITIONS_PERMITTED = 16
SETTINGS = ServiceSettings.model_fields
ENDS_IN_S = SETTINGS["shutdown_delay_s"].default + SETTINGS["shutdown_time_limit_s"].default + 8
"""What a service may take to end, as its settings say."""
GRACE_S = 25
"""What it is left in compose.yaml."""
SERVICES = members.SERVICES
FROM_ENV_FILE = re.compile(r"\$\{([A-Z0-9_]+):\?run \./taskw env\}")


@pytest.fixture(scope="module")
def spec() -> ComposeSpecification:
    # The specification's parser knows no merge keys (`<<`), YAML's does.
    merged = yaml.safe_load((ROOT / "compose.yaml").read_text())
    return PyCompose.from_json(json.dumps(merged)).to_spec()


def environment(spec: ComposeSpecification, name: str) -> dict[str, str]:
    found: dict[str, str] = (spec.services or {})[name].environment  # type: ignore[assignment]  # a mapping, as written
    return found


def test_the_whole_system_is_there(spec: ComposeSpecification) -> None:
    assert set(spec.services or {}) == {"nats", "clickhouse", "declare", *SERVICES}
    assert set(spec.volumes or {}) == {"log", "tables"}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_comes_from_the_one_image_with_nothing_it_does_not_need(
    spec: ComposeSpecification, name: str
) -> None:
    service: Any = (spec.services or {})[name]
    assert service.command == [f"keyforge.{name}"]
    assert service.build.dockerfile == "deploy/Dockerfile"
    assert service.read_only
    assert list(service.cap_drop) == ["ALL"]
    assert list(service.security_opt) == ["no-new-privileges:true"]
    assert not service.privileged
    assert all(str(port).startswith("127.0.0.1:") for port in service.ports)
    assert service.stop_grace_period == f"{GRACE_S}s"


def test_a_container_has_the_time_to_end_that_its_service_may_take() -> None:
    assert ENDS_IN_S <= GRACE_S


def test_the_log_and_the_tables_cannot_be_reached_from_outside(spec: ComposeSpecification) -> None:
    for name in ("nats", "clickhouse"):
        service: Any = (spec.services or {})[name]
        assert not service.ports
        assert set(service.networks) == {"inside"}
    inside: Any = (spec.networks or {})["inside"]
    assert inside.internal


def test_no_secret_is_in_the_file(spec: ComposeSpecification) -> None:
    for name in spec.services or {}:
        for variable, value in environment(spec, name).items():
            if re.search(r"SECRET|PASSWORD|PRIVATE|TOKEN|MASTER", variable):
                assert FROM_ENV_FILE.fullmatch(value), f"{name}: {variable}"
            if password := re.search(r"//[^:/]+:(.*)@", value):
                assert FROM_ENV_FILE.fullmatch(password[1]), f"{name}: {variable}"


@pytest.mark.parametrize("name", SERVICES)
def test_every_variable_is_a_setting_and_every_required_setting_is_given(spec: ComposeSpecification, name: str) -> None:
    module = importlib.import_module(f"keyforge.{name}.settings")
    (settings,) = (found for found in ServiceSettings.__subclasses__() if found.__module__ == module.__name__)
    given = {variable.removeprefix("KEYFORGE_").lower() for variable in environment(spec, name)}
    known = set(settings.model_fields)
    required = {field for field, info in settings.model_fields.items() if info.is_required()}
    assert given <= known
    assert required <= given


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_as_the_table_of_members_has_it(spec: ComposeSpecification, name: str) -> None:
    service: Any = (spec.services or {})[name]
    process = members.process_of(name)
    port = members.PORT_BASE_DEFAULT + process.ports[0].offset
    own = environment(spec, name)
    assert service.command == [process.module]
    assert own["KEYFORGE_PORT"] == str(port)
    assert [str(published) for published in service.ports] == [f"127.0.0.1:{port}:{port}"]
    assert process.ready_path in service.healthcheck.test[-1]
    secret = {variable for other in members.SERVICES for variable in members.process_of(other).secrets}
    assert secret & set(own) == set(process.secrets)


def waits(text: str) -> dict[str, dict[str, str]]:
    """What each container waits for, and until it is how; a wait that is not required is none."""
    found: dict[str, dict[str, str]] = {}
    for name, service in yaml.safe_load(text)["services"].items():
        asked = service.get("depends_on", {})
        if isinstance(asked, list):
            asked = {other: {"condition": "service_started"} for other in asked}
        found[name] = {other: how["condition"] for other, how in asked.items() if how.get("required", True)}
    return found


HEALTHY, DONE = "service_healthy", "service_completed_successfully"
WAITS = {
    members.NATS: {},
    "clickhouse": {},
    "declare": {members.NATS: HEALTHY},
    **{
        name: {members.NATS: HEALTHY, "declare": DONE, **dict.fromkeys(members.process_of(name).needs, HEALTHY)}
        for name in SERVICES
    },
}
"""A service that starts before the log is declared would meet one without its streams."""


def test_services_wait_until_the_log_is_declared() -> None:
    assert waits((ROOT / "compose.yaml").read_text()) == WAITS


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("declare: { condition: service_completed_successfully }", "declare: { condition: service_started }"),
        ("declare: { condition: service_completed_successfully }", "declare: { condition: service_healthy }"),
        ("service_completed_successfully }", "service_completed_successfully, required: false }"),
        (
            "    depends_on:\n      <<: *after_declare\n",
            "    depends_on:\n      nats: { condition: service_healthy }\n",
        ),
        ("clickhouse: { condition: service_healthy }", "clickhouse: { condition: service_started }"),
        ("    depends_on:\n      nats: { condition: service_healthy }\n", "    depends_on: [nats]\n"),
    ],
)
def test_a_service_that_does_not_wait_is_noticed(good: str, bad: str) -> None:
    text = (ROOT / "compose.yaml").read_text()
    assert good in text
    assert waits(text.replace(good, bad)) != WAITS


def test_the_log_server_is_given_the_password_of_every_user(spec: ComposeSpecification) -> None:
    assert set(environment(spec, members.NATS)) == {f"KEYFORGE_NATS_PASSWORD_{user.upper()}" for user in members.USERS}
    assert environment(spec, "declare")["KEYFORGE_NATS_USER"] == members.ADMIN


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_itself_on_the_log(spec: ComposeSpecification, name: str) -> None:
    own = environment(spec, name)
    assert own["KEYFORGE_NATS_USER"] == name
    assert own["KEYFORGE_NATS_PASSWORD"].startswith(f"${{KEYFORGE_NATS_PASSWORD_{name.upper()}:")
    assert "KEYFORGE_PARTITIONS" not in own, "the log says how many there are"


def test_as_many_partitions_are_declared_as_one_owner_needs_and_no_more_than_the_log_server_permits(
    spec: ComposeSpecification,
) -> None:
    assert int(environment(spec, "declare")["KEYFORGE_PARTITIONS"]) == PARTITIONS_DEFAULT <= PARTITIONS_PERMITTED


def test_every_variable_of_the_deployment_is_one_of_ours(spec: ComposeSpecification) -> None:
    for name in spec.services or {}:
        assert variables.unknown(environment(spec, name)) is None


def test_make_env_answers_every_variable_once_and_privately(spec: ComposeSpecification, tmp_path: Path) -> None:
    path = tmp_path / ".env"
    command = (sys.executable, str(ROOT / "deploy" / "make_env.py"), str(path))
    subprocess.run(command, check=True, capture_output=True)
    assert path.stat().st_mode & 0o777 == 0o600
    made = dict(line.split("=", 1) for line in path.read_text().splitlines())
    asked = {
        match[1]
        for name in spec.services or {}
        for value in environment(spec, name).values()
        if (match := FROM_ENV_FILE.search(value))
    }
    assert asked == set(made)
    again = subprocess.run(command, check=False, capture_output=True, text=True)
    assert again.returncode != 0
    assert "exists" in again.stderr
    assert dict(line.split("=", 1) for line in path.read_text().splitlines()) == made


def test_make_env_leaves_no_file_without_secrets(tmp_path: Path) -> None:
    path, script = tmp_path / ".env", ROOT / "deploy" / "make_env.py"
    program = (
        f"import runpy, tempfile; del tempfile.TemporaryDirectory; runpy.run_path({str(script)!r}, None, '__main__')"
    )
    done = subprocess.run((sys.executable, "-c", program, str(path)), check=False, capture_output=True)
    assert done.returncode != 0
    assert not path.exists()


def test_the_log_server_is_configured_by_the_permissions_in_the_code() -> None:
    assert (ROOT / "deploy" / "nats" / "keyforge.conf").read_text() == container(PARTITIONS_PERMITTED), (
        "./taskw nats-config"
    )


def test_the_log_server_accepts_its_configuration(tmp_path: Path) -> None:
    config = ROOT / "deploy" / "nats" / "keyforge.conf"
    assert re.search(r"^ *sync_interval: always$", config.read_text(), re.MULTILINE)
    passwords = {f"KEYFORGE_NATS_PASSWORD_{user.upper()}": f"n12e{user}" for user in members.USERS}
    server = Path(sys.executable).with_name("nats-server")
    done = subprocess.run(
        (server, "--config", config, "-t"),
        env={**os.environ, "HOSTNAME": "nats-0", **passwords},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
