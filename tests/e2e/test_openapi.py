"""The OpenAPI documents of all four services: one error schema, and every operation answers errors with it."""

from typing import Any

import httpx
import pytest

from keyforge.testkit.stack import Stack

ERROR = {"$ref": "#/components/schemas/ErrorResponse"}
OPERATIONS_MIN = {"edge": 0, "budget": 2, "keys": 21, "audit": 5}
"""The agents' API of the edge is OpenAI's, and is not described in its document."""


@pytest.fixture(params=sorted(OPERATIONS_MIN))
def document(request: pytest.FixtureRequest, stack: Stack) -> dict[str, Any]:
    answer = httpx.get(f"{stack.url(request.param)}/openapi.json", timeout=15)
    found: dict[str, Any] = answer.raise_for_status().json()
    assert len(operations(found)) >= OPERATIONS_MIN[request.param]
    return found


def operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for path in document["paths"].values() for operation in path.values()]


def test_every_operation_answers_errors_in_the_one_shape(document: dict[str, Any]) -> None:
    for operation in operations(document):
        errors = {status: response for status, response in operation["responses"].items() if status[0] in "45d"}
        assert {"4XX", "5XX"} <= set(errors), operation["operationId"]
        for response in errors.values():
            assert response["content"] == {"application/json": {"schema": ERROR}}, operation["operationId"]


def test_the_error_is_declared_once_and_as_it_is_sent(document: dict[str, Any]) -> None:
    schemas = document.get("components", {}).get("schemas", {})
    assert not {"HTTPValidationError", "ValidationError"} & set(schemas)
    if not operations(document):
        return
    fields = {"code", "type", "message", "param", "metadata"}
    assert schemas["ErrorResponse"]["required"] == ["error"]
    assert set(schemas["ErrorDetail"]["properties"]) == set(schemas["ErrorDetail"]["required"]) == fields
    assert [name for name, schema in schemas.items() if set(schema.get("properties", ())) == fields] == ["ErrorDetail"]
