"""The OpenAPI that keys serves is what it does: generated requests, bad ones among them, never meet a fault."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from keyforge.testkit.nats_server import NatsNode
from tests.integration.keys_stack import Home
from tests.integration.test_keys_process import Process, declared, process

EXAMPLES = 20
"""Requests of each operation."""
_PLACES = {"tenant": "a", "key": "k", "provider": "a", "model": "m", "credential": "c", "operator": "o"}
CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder: Path = tmp_path_factory.mktemp("schema")
    node = NatsNode(folder / "nats")
    try:
        node.start()
        home = Home(node)
        declared(home)
        with process(home, folder, KEYFORGE_LOG_LEVEL="INFO") as running:
            running.start()
            running.send("POST", "/v1/tenants", {"id": "a", "name": "A"})
            running.send("POST", "/v1/providers", {"id": "a", "kind": "x", "base_url": "https://example.com"})
            yield running
    finally:
        node.stop()


def operations_of(keys: Process) -> Iterator[Any]:
    """Read the schema that is served."""
    for found in schemathesis.openapi.from_url(f"{keys.url}/openapi.json").get_all_operations():
        assert isinstance(found, Ok), found
        yield found.ok()


def test_no_generated_request_meets_a_fault(keys: Process) -> None:
    operations = list(operations_of(keys))
    assert len(operations) == 21
    modes = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
    for operation in operations:
        strategy = st.one_of([operation.as_strategy(generation_mode=mode) for mode in modes])

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=strategy)
        def check(case: Any) -> None:
            for name in ("id", "tenant", "provider"):
                if name in case.path_parameters:
                    case.path_parameters[name] = "a"
            headers = {"authorization": keys.client.headers["authorization"]}
            case.call_and_validate(base_url=keys.url, headers=headers, checks=list(CHECKS), timeout=10)

        check()
    assert "Traceback" not in keys.log.read_text()


def test_without_a_token_nothing_is_told(keys: Process) -> None:
    for operation in operations_of(keys):
        path = operation.path.format_map(_PLACES)
        answer = keys.client.request(operation.method, path, json={}, headers={"authorization": ""})
        assert answer.status_code == 401, (operation.method, path, answer.text)
        assert answer.json()["error"]["type"] == "token_missing"
