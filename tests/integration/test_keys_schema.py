"""The OpenAPI that keys serves is what it does: generated requests, bad ones among them, never meet a fault."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keyforge.testkit.nats_server import NatsNode
from tests.integration.keys_stack import Home
from tests.integration.test_keys_process import WITHIN_S, Process, declared, process

EXAMPLES = 20
"""Requests of each operation."""
OPERATIONS = (
    "GET /v1/operators",
    "POST /v1/operators",
    "POST /v1/operators/{operator}/revoke",
    "GET /v1/prices",
    "GET /v1/prices/{provider}/{model}",
    "PUT /v1/prices/{provider}/{model}",
    "GET /v1/providers",
    "POST /v1/providers",
    "GET /v1/providers/{provider}/credentials",
    "POST /v1/providers/{provider}/credentials",
    "POST /v1/providers/{provider}/credentials/{credential}/revoke",
    "GET /v1/tenants",
    "POST /v1/tenants",
    "GET /v1/tenants/{tenant}",
    "PATCH /v1/tenants/{tenant}",
    "GET /v1/tenants/{tenant}/keys",
    "POST /v1/tenants/{tenant}/keys",
    "GET /v1/tenants/{tenant}/keys/{key}",
    "PATCH /v1/tenants/{tenant}/keys/{key}",
    "POST /v1/tenants/{tenant}/keys/{key}/revoke",
    "POST /v1/tenants/{tenant}/models/resume",
)
_PLACES = {"tenant": "a", "key": "k", "provider": "a", "model": "m", "credential": "c", "operator": "o"}


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


@pytest.fixture(scope="module")
def served(keys: Process) -> dict[str, Any]:
    """Each operation of the schema that is served, by its method and path."""
    import schemathesis  # a second of CPU, which no other worker than the one with this file has to spend
    from schemathesis.core.result import Ok

    found = list(schemathesis.openapi.from_url(f"{keys.url}/openapi.json").get_all_operations())
    assert all(isinstance(one, Ok) for one in found), found
    return {one.ok().label: one.ok() for one in found if isinstance(one, Ok)}


def test_every_operation_is_tried(served: dict[str, Any]) -> None:
    assert set(served) == set(OPERATIONS)


@pytest.mark.parametrize("label", OPERATIONS)
def test_no_generated_request_meets_a_fault(keys: Process, served: dict[str, Any], label: str) -> None:
    """One test for each, so that a slow machine has the time limit of one for `EXAMPLES` requests."""
    import schemathesis
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi import checks

    conformance = (
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_schema_conformance,
    )
    modes = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
    strategy = st.one_of([served[label].as_strategy(generation_mode=mode) for mode in modes])

    @settings(max_examples=EXAMPLES, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(case=strategy)
    def check(case: Any) -> None:
        for name in ("id", "tenant", "provider"):
            if name in case.path_parameters:
                case.path_parameters[name] = "a"
        headers = {"authorization": keys.client.headers["authorization"]}
        case.call_and_validate(
            base_url=keys.url, headers=headers, checks=[not_a_server_error, *conformance], timeout=WITHIN_S
        )

    check()
    assert "Traceback" not in keys.log.read_text()


@pytest.mark.parametrize("label", OPERATIONS)
def test_without_a_token_nothing_is_told(keys: Process, served: dict[str, Any], label: str) -> None:
    operation = served[label]
    path = operation.path.format_map(_PLACES)
    answer = keys.client.request(operation.method, path, json={}, headers={"authorization": ""})
    assert answer.status_code == 401, (operation.method, path, answer.text)
    assert answer.json()["error"]["type"] == "token_missing"
