"""The shared HTTP surface: every error in the catalogue's shape, a request id on every answer, health that tells."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry
from pydantic import BaseModel

from keyforge.runtime.http import fail, new_app, with_http_guards


class Doctor:
    well = True

    def checks(self) -> dict[str, bool]:
        return {"heart": self.well}

    def details(self) -> dict[str, Any]:
        return {}


class Body(BaseModel):
    count: int


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    doctor = Doctor()
    app = new_app("test", doctor, CollectorRegistry())

    @app.post("/count")
    async def count(body: Body) -> int:
        if body.count < 0:
            raise fail("not_found", "no such count")
        return 1 // body.count

    @app.post("/ill")
    async def ill() -> None:
        doctor.well = False

    transport = httpx.ASGITransport(with_http_guards(app), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "type_"),
    [
        ("GET", "/nowhere", None, 404, "route_unknown"),
        ("GET", "/count", None, 405, "method_not_allowed"),
        ("POST", "/count/", b'{"count": 1}', 404, "route_unknown"),
        ("POST", "/count", b"{", 400, "json_invalid"),
        ("POST", "/count", b'{"count": 1, "count": 2}', 400, "json_duplicate_key"),
        ("POST", "/count", b'{"count": "x"}', 400, "request_invalid"),
        ("POST", "/count", b'{"count": -1}', 404, "not_found"),
        ("POST", "/count", b'{"count": 0}', 500, "internal"),
        ("POST", "/count", b'"' + b"x" * 300_000 + b'"', 413, "body_too_large"),
    ],
)
async def test_errors(
    client: httpx.AsyncClient, method: str, path: str, content: bytes | None, status: int, type_: str
) -> None:
    answer = await client.request(method, path, content=content, headers={"content-type": "application/json"})
    assert answer.status_code == status
    error = answer.json()["error"]
    assert (error["code"], error["type"]) == (status, type_)
    assert set(error) == {"code", "type", "message", "param", "metadata"}
    assert answer.headers["x-request-id"] == answer.headers["request-id"]


async def test_the_wrong_field_is_named(client: httpx.AsyncClient) -> None:
    error = (await client.post("/count", json={"count": "x"})).json()["error"]
    assert error["param"] == "count"
    assert error["message"].startswith("`count`: Input should be a valid integer")


async def test_openapi_shows_one_error_for_every_operation(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    assert {"ErrorResponse", "ErrorDetail"} <= set(document["components"]["schemas"])
    assert "HTTPValidationError" not in document["components"]["schemas"]
    responses = document["paths"]["/count"]["post"]["responses"]
    assert set(responses) == {"200", "4XX", "5XX"}
    for status in ("4XX", "5XX"):
        assert responses[status]["content"]["application/json"]["schema"] == {
            "$ref": "#/components/schemas/ErrorResponse"
        }


async def test_readiness_follows_the_checks(client: httpx.AsyncClient) -> None:
    assert (await client.get("/readyz")).status_code == 200
    await client.post("/ill")
    answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()) == (503, {"ready": False, "checks": {"heart": False}, "details": {}})
    assert (await client.get("/healthz")).status_code == 200
    assert (await client.get("/metrics")).status_code == 200
