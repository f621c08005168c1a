"""What `keyforge up` decides before it touches anything: ports, configuration, environments, pauses, what to seed."""

import re
import socket
from pathlib import Path

import pytest
from annotated_types import Ge, Le

from keyforge.contracts import members, variables
from keyforge.embedded import nats_config, ports, seed, services
from keyforge.embedded.errors import SettingError, StackError
from keyforge.embedded.home import Home
from keyforge.embedded.ports import PortPlan
from keyforge.embedded.secrets import Secrets
from keyforge.embedded.seeded import Credential, Seeded, quota_group
from keyforge.embedded.supervisor import RESTART_MAX_S, restart_delay_s
from keyforge.runtime.settings import ServiceSettings

SECRETS = Secrets(
    key_secret="fixture-key-secret",
    commitment_secret="fixture-commitment",
    audit_master_key="fixture-master",
    edge_private_key="fixture-private",
    edge_public_key="fixture-public",
    admin_token="fixture-admin",
    clickhouse_password="fixture-clickhouse",
    nats_passwords={user: f"fixture-nats-{user}" for user in members.USERS},
)
MARK = b"fixture-mark"
SIMULATOR = "http://127.0.0.1:8100/v1"
GROUP = quota_group(seed.SIMULATOR, seed.SIMULATOR_SECRET, SIMULATOR, MARK)
SEEDED = Seeded(seed.SIMULATOR, GROUP)
CREDENTIAL = Credential("c1", GROUP, active=True)


def test_all_ports_follow_from_the_base() -> None:
    assert ports.plan("").uses() == {
        "edge": 8080,
        "keys": 8081,
        "budget": 8082,
        "audit": 8083,
        "ClickHouse-HTTP": 8085,
        "NATS": 8090,
        "NATS monitoring": 8091,
        "simulator": 8100,
    }
    assert ports.plan(" 9000 ").of("simulator") == 9020


@pytest.mark.parametrize("base", ["x", "0", "-1", "65516", "8080.5", "٨٠٨٠", "99999999999"])
def test_a_base_that_is_no_port_is_refused(base: str) -> None:
    with pytest.raises(SettingError, match="KEYFORGE_PORT_BASE"):
        ports.plan(base)


def test_a_port_in_use_is_named_with_what_it_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        monkeypatch.setattr(PortPlan, "uses", lambda _: {"budget": port})
        with pytest.raises(StackError, match=rf"port is in use by another program: {port} \(budget\)"):
            ports.check_free(PortPlan(8080))


def test_nats_listens_on_loopback_syncs_always_and_has_a_user_per_service() -> None:
    text = nats_config.embedded(PortPlan(8080), Path("/home/x/nats"), SECRETS.nats_passwords, 4)
    assert 'listen: "127.0.0.1:8090"' in text
    assert 'http: "127.0.0.1:8091"' in text
    assert "sync_interval: always" in text
    assert re.findall(r"user: (\w+)", text) == list(members.USERS)
    for user in members.USERS:
        assert f'"fixture-nats-{user}"' in text
    assert text.count("allow_responses") == 1


def test_a_store_path_with_quotes_stays_one_value() -> None:
    text = nats_config.embedded(PortPlan(8080), Path('/a "b"/nats'), SECRETS.nats_passwords, 1)
    assert r'store_dir: "/a \"b\"/nats"' in text


def test_each_service_gets_its_own_secrets_and_no_others() -> None:
    outer = {
        "PATH": "/bin",
        "OPENAI_API_KEY": "canary-openai",
        "KEYFORGE_ADMIN_TOKEN": "canary-token",
        "KEYFORGE_CREDENTIAL_SECRET": "canary-credential",
        "KEYFORGE_NATS_PASSWORD_ADMIN": "canary-nats",
        "KEYFORGE_LOG_LEVEL": "DEBUG",
        "AWS_SECRET_ACCESS_KEY": "canary-aws",
        "PYTHONPATH": "/tmp",
    }
    found = {s.name: s for s in services.over_the_log(Home(Path("/h")), PortPlan(8080), SECRETS, outer)}
    assert list(found) == ["audit", "keys", "budget", "edge", "simulator"]
    assert found["simulator"].environment == {"PATH": "/bin", "KEYFORGE_LOG_LEVEL": "DEBUG", "PYTHONUNBUFFERED": "1"}
    own = {
        "fixture-private": {"edge"},
        "fixture-commitment": {"edge", "keys", "audit"},
        "fixture-public": {"keys"},
        "fixture-admin": {"keys"},
        "fixture-master": {"audit"},
        "fixture-clickhouse": {"audit"},
        **{f"fixture-nats-{name}": {name} for name in ("keys", "budget", "audit", "edge")},
    }
    for secret, holders in own.items():
        assert {name for name, service in found.items() if secret in service.environment.values()} == holders, secret
    for service in found.values():
        assert not any("canary" in value for value in service.environment.values())
        assert "fixture" not in repr(service)
        assert "fixture" not in " ".join(service.command)


SET_BY_UP = {
    "KEYFORGE_HOST",
    "KEYFORGE_PORT",
    "KEYFORGE_INSTANCE",
    "KEYFORGE_NATS_URL",
    "KEYFORGE_NATS_USER",
    "KEYFORGE_NATS_PASSWORD",
    "KEYFORGE_NATS_MONITOR_URL",
    "KEYFORGE_PARTITIONS",
    "KEYFORGE_KEY_SECRET",
}
"""Addresses, ports, names, users and secrets, as docs/settings.md says; the number of partitions is up's own."""
OF_AUDIT = {
    "KEYFORGE_CLICKHOUSE_URL",
    "KEYFORGE_CLICKHOUSE_PATH",
    "KEYFORGE_CLICKHOUSE_HTTP_PORT",
    "KEYFORGE_CLICKHOUSE_USER",
    "KEYFORGE_CLICKHOUSE_PASSWORD",
}


@pytest.mark.parametrize("name", members.SERVICES)
def test_a_service_is_given_each_setting_of_its_own_that_up_does_not_set(name: str) -> None:
    known = {f"{variables.PREFIX}{one}" for one in (*variables.READ_BY[variables.SERVICE], *variables.READ_BY[name])}
    outer = dict.fromkeys(known, "mark")
    found = {s.name: s for s in services.over_the_log(Home(Path("/h")), PortPlan(8080), SECRETS, outer)}[name]
    given = {variable for variable, value in found.environment.items() if value == "mark"}
    kept_back = SET_BY_UP | OF_AUDIT | set(members.process_of(name).secrets)
    assert given == known - kept_back


def test_there_is_no_delay_unless_it_is_set() -> None:
    for outer, delay in (({}, "0"), ({"KEYFORGE_SHUTDOWN_DELAY_S": "2"}, "2")):
        found = services.over_the_log(Home(Path("/h")), PortPlan(8080), SECRETS, outer)
        assert {service.environment.get("KEYFORGE_SHUTDOWN_DELAY_S") for service in found[:-1]} == {delay}


def test_up_waits_as_long_as_its_services_may_take() -> None:
    assert services.shutdown_s({}) == services.SHUTDOWN_S_DEFAULT
    assert services.shutdown_s({"KEYFORGE_SHUTDOWN_TIME_LIMIT_S": "60", "KEYFORGE_SHUTDOWN_DELAY_S": "2.5"}) == 62.5


@pytest.mark.parametrize("text", ["abc", "", "-1", "nan", "inf", "9999"])
@pytest.mark.parametrize("name", ["KEYFORGE_SHUTDOWN_DELAY_S", "KEYFORGE_SHUTDOWN_TIME_LIMIT_S"])
def test_a_time_to_end_that_cannot_be_used_is_refused(name: str, text: str) -> None:
    with pytest.raises(SettingError, match=rf"^{name} must be a .*number of seconds from [01] to 3?600, not '{text}'"):
        services.shutdown_s({name: text})


def test_its_bounds_are_those_of_the_services() -> None:
    fields = ServiceSettings.model_fields
    assert fields["shutdown_delay_s"].metadata == [Ge(0), Le(services.SHUTDOWN_DELAY_S_MAX)]
    assert fields["shutdown_time_limit_s"].metadata == [Ge(1), Le(services.SHUTDOWN_TIME_LIMIT_S_MAX)]
    assert fields["shutdown_time_limit_s"].default == services.SHUTDOWN_S_DEFAULT


def test_secrets_do_not_show_themselves() -> None:
    assert "fixture" not in repr(SECRETS)


def test_a_first_death_is_mended_at_once_and_a_crash_loop_slows_down() -> None:
    delays = [restart_delay_s(deaths) for deaths in range(1, 40)]
    assert delays[0] < 0.5
    assert delays == sorted(delays)
    assert delays[-1] == RESTART_MAX_S


def existing(**changes: object) -> seed.Existing:
    """What a home looks like that was seeded to the end, with changes."""
    whole: dict[str, object] = {
        "tenants": ["demo"],
        "keys": [seed.Key("k1", "demo", active=True)],
        "stored_key": "k1",
        "providers": {"sim": SIMULATOR},
        "credentials": {"sim": [CREDENTIAL]},
        "seeded": [SEEDED],
        "models": ["sim-small"],
        "prices": ["sim-small"],
    }
    return seed.Existing(**{**whole, **changes})  # type: ignore[arg-type]


def names(state: seed.Existing, **environment: str) -> list[str]:
    return [
        type(step).__name__ for step in seed.plan(state, simulator_url=SIMULATOR, environment=environment, mark=MARK)
    ]


@pytest.mark.parametrize(
    ("state", "steps"),
    [
        pytest.param(
            seed.Existing(models=["sim-small"]),
            ["AddProvider", "AddCredential", "SetPrice", "CreateTenant", "CreateKey"],
            id="nothing exists",
        ),
        pytest.param(existing(), [], id="everything exists"),
        pytest.param(existing(credentials={"sim": []}), ["AddCredential"], id="stopped before the credential"),
        pytest.param(existing(prices=[]), ["SetPrice"], id="stopped before the price"),
        pytest.param(existing(keys=[], stored_key=None), ["CreateKey"], id="stopped before the key"),
        pytest.param(existing(stored_key=None), ["RevokeKey", "CreateKey"], id="stopped before the key was stored"),
        pytest.param(
            existing(keys=[seed.Key("k1", "demo", active=False)]),
            [],
            id="the demo key was revoked: it stays so",
        ),
        pytest.param(
            existing(keys=[seed.Key("k9", "mine", active=True)], stored_key=None),
            ["CreateKey"],
            id="an operator's own key is left alone",
        ),
        pytest.param(
            existing(
                providers={"sim": "http://127.0.0.1:9100/v1"},
                credentials={"sim": [Credential("c0", "env-other", active=True)]},
                seeded=[Seeded("sim", "env-other")],
            ),
            ["AddProvider", "AddCredential", "RevokeCredential"],
            id="the ports moved",
        ),
    ],
)
def test_a_seeding_does_what_is_left(state: seed.Existing, steps: list[str]) -> None:
    assert names(state) == steps


def test_a_key_in_the_environment_registers_its_provider_once() -> None:
    assert names(existing(), OPENAI_API_KEY="fixture-one") == ["AddProvider", "AddCredential"]
    url = seed.KNOWN["OPENAI_API_KEY"].base_url
    group = quota_group("openai", "fixture-one", url, MARK)
    known = existing(
        providers={"sim": SIMULATOR, "openai": url},
        credentials={"sim": [CREDENTIAL], "openai": [Credential("c2", group, active=True)]},
        seeded=[SEEDED, Seeded("openai", group)],
    )
    assert names(known, OPENAI_API_KEY="fixture-one") == []
    assert names(known, OPENAI_API_KEY="fixture-two") == ["AddCredential", "RevokeCredential"]
    assert names(known, OPENAI_API_KEY="  ") == ["RevokeCredential"]


@pytest.mark.parametrize("value", ["fixture one", "fixture\n1", "k\u00fc", "x" * (seed.SECRET_CHARS_MAX + 1)])
def test_a_provider_s_variable_that_is_no_secret_is_named_and_not_shown(value: str) -> None:
    with pytest.raises(SettingError, match=r"^OPENAI_API_KEY must be at most 4096 printable ASCII") as refused:
        seed.secret_of("OPENAI_API_KEY", {"OPENAI_API_KEY": value})
    assert value not in str(refused.value)


def test_every_known_provider_is_called_over_https() -> None:
    assert set(seed.KNOWN) == {
        f"{name}_API_KEY" for name in ["OPENAI", "ANTHROPIC", "GROQ", "MISTRAL", "DEEPSEEK", "OPENROUTER", "GEMINI"]
    }
    assert all(known.base_url.startswith("https://") and not known.allow_insecure for known in seed.KNOWN.values())


def test_a_quota_group_tells_nothing_of_its_secret() -> None:
    group = quota_group("openai", "fixture-one", "https://x", MARK)
    assert "fixture" not in group
    assert group != quota_group("openai", "fixture-one", "https://x", b"another home")
