"""The tests of the client again on uvloop, which the services run on."""

import inspect
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from tests.contract import (
    test_eventlog_client,
    test_eventlog_client_access,
    test_eventlog_client_faults,
    test_eventlog_client_lies,
    test_eventlog_client_tls,
)

FIXTURES = {"nats_node", "nats_own", "subject", "with_users", "folder", "tls_node"}
SCENARIOS = [
    pytest.param(value, id=f"{module.__name__.rpartition('_')[2]}-{name.removeprefix('test_')}")
    for module in (
        test_eventlog_client,
        test_eventlog_client_access,
        test_eventlog_client_faults,
        test_eventlog_client_lies,
        test_eventlog_client_tls,
    )
    for name, value in vars(module).items()
    if name.startswith("test_") and FIXTURES.issuperset(inspect.signature(value).parameters)
]

subject = test_eventlog_client.subject
with_users = test_eventlog_client_access.with_users
folder = test_eventlog_client_tls.folder
tls_node = test_eventlog_client_tls.tls_node


def run(scenario: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
    uvloop.run(scenario(*args))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_on_uvloop(scenario: Callable[..., Coroutine[Any, Any, None]], request: pytest.FixtureRequest) -> None:
    run(scenario, *map(request.getfixturevalue, inspect.signature(scenario).parameters))


def parametrized(test: Any) -> pytest.MarkDecorator:
    """The table of a test."""
    [mark] = [mark for mark in test.pytestmark if mark.name == "parametrize"]
    return pytest.mark.parametrize(*mark.args, **mark.kwargs)


@parametrized(test_eventlog_client_lies.test_what_is_no_server_is_not_opened)
def test_no_server(greeting: bytes, mute: bool) -> None:
    run(test_eventlog_client_lies.test_what_is_no_server_is_not_opened, greeting, mute)


@parametrized(test_eventlog_client_lies.test_a_server_that_says_nonsense_later)
def test_nonsense(said: bytes, why: str) -> None:
    run(test_eventlog_client_lies.test_a_server_that_says_nonsense_later, said, why)


@parametrized(test_eventlog_client_tls.test_nothing_is_said_or_believed_in_the_clear)
def test_in_the_clear(folder: Any, scheme: str, greeting: bytes) -> None:
    run(test_eventlog_client_tls.test_nothing_is_said_or_believed_in_the_clear, folder, scheme, greeting)


@parametrized(test_eventlog_client_tls.test_a_server_that_proves_its_name)
def test_tls(tls_node: Any, folder: Any, scheme: str) -> None:
    run(test_eventlog_client_tls.test_a_server_that_proves_its_name, tls_node, folder, scheme)
