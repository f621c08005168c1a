"""The shared HTTP surface: every error in the catalogue's shape, a request id on every answer, health that tells."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Query
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

    @app.get("/counts/{of}")
    async def counts(
        of: str, since: Annotated[int, Query(alias="from")] = 0, limit: int = 10, share: float | None = None
    ) -> list[float]:
        return [since, limit, len(of), *([] if share is None else [share])]

    @app.put("/counts/{of}")
    async def put(of: str) -> str:
        return of

    @app.post("/ill")
    async def ill() -> None:
        doctor.well = False

    @app.post("/ended")
    @app.get("/ended", include_in_schema=False)
    async def ended() -> None:
        raise asyncio.CancelledError

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


@pytest.mark.parametrize(
    ("content_type", "content", "message"),
    [
        (
            "application/x-www-form-urlencoded",
            b'{"count": 1}',
            "The body must be sent with `Content-Type: application/json`.",
        ),
        ("", b'{"count": 1}', "The body must be sent with `Content-Type: application/json`."),
        ("application/json", b"[1]", "The body must be a JSON object."),
        ("application/json", b"", "The body must be a JSON object."),
    ],
)
async def test_a_body_that_is_no_object_says_what_to_send(
    client: httpx.AsyncClient, content_type: str, content: bytes, message: str
) -> None:
    answer = await client.post("/count", content=content, headers={"content-type": content_type})
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, message)


@pytest.mark.parametrize(
    ("path", "param", "says"),
    [
        ("/counts/x?form=3", "query.form", "this route takes from, limit, share"),
        ("/counts/x?since=3", "query.since", "this route takes from, limit, share"),
        ("/counts/x?of=y", "query.of", "this route takes from, limit, share"),
        ("/counts/x?limit=1&limit=2", "query.limit", "more than once"),
        ("/counts/x?limit=1&limti=2", "query.limti", "this route takes from, limit, share"),
        ("/counts/x?limit=1_0", "query.limit", "an integer in decimal digits"),
        ("/counts/x?limit=1.0", "query.limit", "an integer in decimal digits"),
        ("/counts/x?limit=%201", "query.limit", "an integer in decimal digits"),
        ("/counts/x?limit=%D9%A1", "query.limit", "an integer in decimal digits"),
        ("/counts/x?limit=", "query.limit", "an integer in decimal digits"),
        ("/counts/x?share=1_0", "query.share", "a decimal number"),
        ("/counts/x?share=.5", "query.share", "a decimal number"),
        ("/counts/x?share=nan", "query.share", "a decimal number"),
        ("/counts/x?%ED%A0%80=1", None, "is not known"),
        ("/count?dry=1", "query.dry", "this route takes no query parameters"),
    ],
)
async def test_a_query_parameter_that_would_be_passed_over_is_refused(
    client: httpx.AsyncClient, path: str, param: str | None, says: str
) -> None:
    answer = await (client.post(path, json={"count": 1}) if path.startswith("/count?") else client.get(path))
    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (400, "request_invalid")
    assert says in error["message"]
    assert error["param"] == param or param is None


async def test_query_parameters_that_a_route_takes_reach_it(client: httpx.AsyncClient) -> None:
    assert (await client.get("/counts/abc?from=2&limit=3")).json() == [2, 3, 3]
    assert (await client.get("/counts/abc?from=-2&share=1.5e1")).json() == [-2, 10, 3, 15]
    assert (await client.get("/counts/abc")).json() == [0, 10, 3]
    assert (await client.get("/readyz?probe=lb")).status_code == 200
    assert (await client.get("/metrics?name=up")).status_code == 200


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


async def test_a_405_names_the_methods_of_all_routes_of_the_path(client: httpx.AsyncClient) -> None:
    for method, path, allowed in (
        ("GET", "/count", "POST"),
        ("DELETE", "/counts/x", "GET, HEAD, PUT"),
        ("POST", "/counts/x", "GET, HEAD, PUT"),
        ("POST", "/healthz", "GET, HEAD"),
        ("HEAD", "/count", "POST"),
    ):
        answer = await client.request(method, path, headers={"content-type": "application/json"})
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/counts/abc?from=2", "/openapi.json"])
async def test_head_is_answered_as_get(client: httpx.AsyncClient, path: str) -> None:
    head, get = await client.head(path), await client.get(path)
    assert head.status_code == get.status_code == 200
    assert head.headers["content-type"] == get.headers["content-type"]


async def test_who_changed_something_is_told_that_it_may_be_stored_though_the_service_ended(
    client: httpx.AsyncClient,
) -> None:
    for method, may_be_stored in (("GET", False), ("POST", True)):
        answer = await client.request(method, "/ended")
        assert (answer.status_code, answer.json()["error"]["type"]) == (503, "shutting_down")
        assert ("may have been stored or not" in answer.text) is may_be_stored
