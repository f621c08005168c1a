"""Paths of the agents' API: models by their names, and which route was meant where a path is none."""

from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from starlette.routing import Route

from keyforge.edge.core.dialects.registry import ROUTES
from keyforge.edge.inbound import paths
from keyforge.runtime.http import new_app


@pytest.mark.parametrize(
    ("path", "right"),
    [
        ("//v1/chat/completions", "/v1/chat/completions"),
        ("/v1//chat/completions", "/v1/chat/completions"),
        ("/v1/v1/chat/completions", "/v1/chat/completions"),
        ("/chat/completions", "/v1/chat/completions"),
        ("/v1/chat/completions/", "/v1/chat/completions"),
        ("/V1/Chat/Completions", "/v1/chat/completions"),
        ("/v1/chat/completions/chat/completions", "/v1/chat/completions"),
        ("/openai/v1/chat/completions", "/v1/chat/completions"),
        ("/v1beta/openai/chat/completions", "/v1/chat/completions"),
        ("/api/v1/chat/completions/", "/api/v1/chat/completions"),
        ("/api/chat/completions", "/api/v1/chat/completions"),
        ("/api/v1/v1/embeddings", "/api/v1/embeddings"),
        ("/embeddings", "/v1/embeddings"),
        ("/models", "/v1/models"),
        ("/v1/models/", "/v1/models"),
        ("/v1/v1/models", "/v1/models"),
        ("/openai/models", "/v1/models"),
        ("/v1/v1/models/openai/gpt-4o", "/v1/models/{model}"),
        ("/models/openai/gpt-4o", "/v1/models/{model}"),
    ],
)
def test_a_near_miss_names_the_path_and_the_base_url(path: str, right: str) -> None:
    assert path not in ROUTES
    wrong = paths.unknown(path)
    prefix = "/api/v1" if right.startswith("/api") else "/v1"
    assert (wrong.kind.type, wrong.kind.status) == ("route_unknown", 404)
    assert f"`{right}`" in wrong.message
    assert f"the address of this gateway with `{prefix}`" in wrong.message
    assert wrong.metadata == {"path": right, "base_path": prefix}


@pytest.mark.parametrize("operation", ["chat/completions", "embeddings"])
@pytest.mark.parametrize("base", ["/openai", "/v1", ""])
def test_azures_deployments_are_named(base: str, operation: str) -> None:
    wrong = paths.unknown(f"{base}/deployments/openai/gpt-4o/{operation}")
    assert f"`/v1/{operation}`" in wrong.message
    assert "no deployments" in wrong.message
    assert "`OpenAI` in place of `AzureOpenAI`" in wrong.message


def test_what_operators_read_is_what_every_service_has_besides_its_api() -> None:
    class Healthy:
        def checks(self) -> dict[str, bool]:
            return {}

        def details(self) -> dict[str, Any]:
            return {}

    served = new_app("KeyForge edge", Healthy(), CollectorRegistry()).routes
    assert {route.path for route in served if isinstance(route, Route)} == paths.OPERATORS


@pytest.mark.parametrize(
    "path",
    ["/", "", "/v1", "/v1/", "/v1/chat", "/v1/completions", "/v1/messages", "/favicon.ico", "/xmodels", "/a/models/b"],
)
def test_what_is_near_no_route_is_unknown_and_all_routes_are_named(path: str) -> None:
    wrong = paths.unknown(path)
    assert (wrong.kind.type, wrong.metadata) == ("route_unknown", None)
    assert [name for name in wrong.message.split("`") if "/" in name] == [
        "POST /v1/chat/completions",
        "POST /v1/embeddings",
        "GET /v1/models",
        "GET /v1/models/{model}",
    ]


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v1/models", ""),
        ("/api/v1/models", ""),
        ("/v1/models/gpt-4o", "gpt-4o"),
        ("/api/v1/models/cf/@cf/meta/llama-3-8b", "cf/@cf/meta/llama-3-8b"),
        ("/v1/models//x", "/x"),
        ("/v1/models/", None),
        ("/v1/modelsx", None),
        ("/models/x", None),
    ],
)
def test_models_are_found_by_their_path(path: str, model: str | None) -> None:
    assert paths.model_of(path) == model
