"""The page shape of all OpenAPI documents: a list is under the last word of its path, beside `next`."""

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from pydantic import BaseModel

from keyforge.audit.inbound.api import add_routes
from keyforge.budget.inbound.api import build_api
from keyforge.budget.metrics import Metrics
from keyforge.keys.inbound.handling import Guard
from keyforge.keys.inbound.platform import operator_routes, price_routes, provider_routes
from keyforge.keys.inbound.tenants import key_routes, tenant_routes
from keyforge.runtime.http import new_app, operator_of

ROOT = Path(__file__).resolve().parents[2]
NONE: Any = None
"""What routes call when they are called; a document is made without it."""
NO_PAGES = {
    "/v1/partitions": "as many as the log was declared with",
    "/v1/tenants/{tenant}/keys/{key_id}/limits": "as many as one key and its tenant have",
    "/v1/rebuild": "20 differences of each comparison and 8 kept sets at most",
    "/v1/spend": "sums by group, which belong together with their total",
}
"""Path → why all of its list is one answer."""
PAGES_MIN = {"budget": 0, "keys": 6, "audit": 2}


def budget() -> FastAPI:
    return build_api(NONE, (), Metrics(), NONE, NONE)


def keys() -> FastAPI:
    app, guard = new_app("keys", NONE, CollectorRegistry()), Guard(NONE)
    for router in (
        tenant_routes(NONE, guard),
        key_routes(NONE, guard),
        provider_routes(NONE, NONE, guard),
        price_routes(NONE, guard),
        operator_routes(NONE, guard),
    ):
        app.include_router(router)
    return app


def audit() -> FastAPI:
    app = new_app("audit", NONE, CollectorRegistry())
    add_routes(app, NONE, NONE, NONE, reader=operator_of(NONE), admin=operator_of(NONE, writes=True))
    return app


SERVICES: dict[str, Callable[[], FastAPI]] = {"budget": budget, "keys": keys, "audit": audit}


def lists(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Paths and answers of what lists objects; a path that ends in an id shows one, with whatever lists it has."""
    for path, operations in document["paths"].items():
        if "get" not in operations or path.endswith("}"):
            continue
        schema = operations["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        schema = document["components"]["schemas"].get(schema.get("$ref", "").rpartition("/")[2], schema)
        if schema.get("type") == "array" or arrays(schema):
            yield path, schema


def arrays(schema: dict[str, Any]) -> list[str]:
    """Fields of an answer that hold objects one after another."""
    fields = schema.get("properties", {}).items()
    return [name for name, field in fields if field.get("type") == "array" and "$ref" in field.get("items", {})]


def odd(document: dict[str, Any]) -> list[str]:
    """Paths whose list is no page, and is not known to need none."""
    return [
        path
        for path, schema in lists(document)
        if path not in NO_PAGES
        and (arrays(schema) != [path.rpartition("/")[2]] or "next" not in schema.get("required", ()))
    ]


def test_keys_has_no_other_routes() -> None:
    """budget and audit are asked for all of theirs; keys adds its own one kind after another."""
    wired = (ROOT / "services/keys/src/keyforge/keys/app.py").read_text()
    added = inspect.getsource(keys)
    assert set(re.findall(r"\w+_routes", wired)) == set(re.findall(r"\w+_routes", added))


@pytest.mark.parametrize("service", SERVICES)
def test_every_list_is_a_page(service: str) -> None:
    document = SERVICES[service]().openapi()
    assert len([path for path, _ in lists(document) if path not in NO_PAGES]) >= PAGES_MIN[service]
    assert odd(document) == []


def test_what_needs_no_pages_is_there() -> None:
    listed = {path: schema for make in SERVICES.values() for path, schema in lists(make().openapi())}
    assert {path for path in NO_PAGES if "next" not in listed[path]["properties"]} == set(NO_PAGES)


class RowResponse(BaseModel):
    name: str


class WholeResponse(BaseModel):
    rows: list[RowResponse]


class PageResponse(WholeResponse):
    next: str | None


class OptionalNextResponse(WholeResponse):
    next: str | None = None


@pytest.mark.parametrize(
    ("path", "shape", "found"),
    [
        pytest.param("/v1/rows", PageResponse, [], id="a page"),
        pytest.param("/v1/rows", WholeResponse, ["/v1/rows"], id="no next"),
        pytest.param("/v1/rows", OptionalNextResponse, ["/v1/rows"], id="a next that may be missing"),
        pytest.param("/v1/tables", PageResponse, ["/v1/tables"], id="another word than the path's"),
        pytest.param("/v1/rows", list[RowResponse], ["/v1/rows"], id="a bare list"),
        pytest.param("/v1/rows/{row}", WholeResponse, [], id="one object"),
    ],
)
def test_a_list_without_the_shape_is_found(path: str, shape: Any, found: list[str]) -> None:
    app = FastAPI()
    app.add_api_route(path, lambda: None, response_model=shape)
    assert odd(app.openapi()) == found
