"""Which variables are ours: a misspelled one is named with the nearest, those of Kubernetes are passed over."""

import pytest

from keyforge.contracts import variables


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("KEYFORGE_PARTITION", "KEYFORGE_PARTITIONS"),
        ("KEYFORGE_PARTITONS", "KEYFORGE_PARTITIONS"),
        ("KEYFORGE_COMMITMENT_SECERT", "KEYFORGE_COMMITMENT_SECRET"),
        ("KEYFORGE_LOGLEVEL", "KEYFORGE_LOG_LEVEL"),
        ("KEYFORGE_NATS_PASSWORD_BUDGT", "KEYFORGE_NATS_PASSWORD_BUDGET"),
        ("KEYFORGE_EDGE_PRIVATE_KEY_FILE", "KEYFORGE_EDGE_PRIVATE_KEY"),
        ("KEYFORGE_Port", "KEYFORGE_PORT"),
    ],
)
def test_a_name_that_is_no_setting_s_is_given_with_the_nearest(name: str, nearest: str) -> None:
    said = variables.unknown({name: "x", "PATH": "/bin", "KEYFORGE_HOME": "/h"})
    assert said == f"{name}: no setting has this name, the nearest is {nearest}"


def test_all_of_them_are_named_on_one_line_however_they_are_spelled() -> None:
    said = variables.unknown(
        dict.fromkeys(("KEYFORGE_B\nX", "KEYFORGE_A", "KEYFORGE_" + "C" * 100_000, "KEYFORGE_"), "x")
    )
    assert said is not None
    assert "\n" not in said
    assert [one.partition(":")[0] for one in said.split("; ")] == [
        "KEYFORGE_",
        "KEYFORGE_A",
        "KEYFORGE_B\\nX",
        "KEYFORGE_" + "C" * 55 + "…",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KEYFORGE_SERVICE_HOST", "10.0.0.1"),
        ("KEYFORGE_EDGE_SERVICE_HOST", "10.0.0.1"),
        ("KEYFORGE_SERVICE_PORT", "8080"),
        ("KEYFORGE_SERVICE_PORT_HTTP", "8080"),
        ("KEYFORGE_PORT", "tcp://10.0.0.1:8080"),
        ("KEYFORGE_NATS_PORT", "tcp://10.0.0.1:4222"),
        ("KEYFORGE_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
        ("KEYFORGE_PORT_8080_TCP_PROTO", "tcp"),
        ("KEYFORGE_EDGE_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("KEYFORGE_DNS_PORT", "udp://10.0.0.1:53"),
        ("KEYFORGE_DNS_PORT_53_UDP_PROTO", "udp"),
        ("KEYFORGE_PORT_7_SCTP", "sctp://10.0.0.1:7"),
    ],
)
def test_what_kubernetes_makes_is_passed_over(name: str, value: str) -> None:
    assert variables.unknown({name: value}) is None
    assert variables.is_service_link(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KEYFORGE_NATS_PORT", "4222"),
        ("KEYFORGE_PORT_HTTP_TCP", "x"),
        ("KEYFORGE_PORT_8080", "x"),
        ("KEYFORGE_SERVICE", "x"),
        ("KEYFORGE_SERVICE_HOSTS", "x"),
    ],
)
def test_what_only_looks_like_it_is_not(name: str, value: str) -> None:
    assert variables.unknown({name: value}) is not None
    assert not variables.is_service_link(name, value)


def test_another_case_is_somebody_else_s() -> None:
    assert (
        variables.unknown({"keyforge_foo": "x", "Keyforge_Foo": "x", "KEYFORGER": "x", "MY_KEYFORGE_FOO": "x"}) is None
    )


def test_an_empty_secret_is_named() -> None:
    environment = {"KEYFORGE_A": "", "KEYFORGE_B": " \n", "KEYFORGE_C": "x"}
    names = ("KEYFORGE_A", "KEYFORGE_B", "KEYFORGE_C", "KEYFORGE_D")
    assert variables.empty(environment, *names) == "KEYFORGE_A must not be empty; KEYFORGE_B must not be empty"
    assert variables.empty(environment, "KEYFORGE_C", "KEYFORGE_D") is None
