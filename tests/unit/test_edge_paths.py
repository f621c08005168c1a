"""Paths of the agents' API: models by their names, and which route was meant where a path is none."""

import pytest

from keyforge.edge.core.dialects.registry import ROUTES
from keyforge.edge.inbound import paths


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
def test_azures_deployments_are_named(operation: str) -> None:
    wrong = paths.unknown(f"/openai/deployments/gpt-4o/{operation}")
    assert f"`/v1/{operation}`" in wrong.message
    assert "no deployments" in wrong.message
    assert "azure_endpoint" in wrong.message


@pytest.mark.parametrize(
    "path",
    ["/", "", "/v1", "/v1/", "/v1/chat", "/v1/completions", "/v1/messages", "/favicon.ico", "/xmodels", "/a/models/b"],
)
def test_what_is_near_no_route_is_only_unknown(path: str) -> None:
    wrong = paths.unknown(path)
    assert (wrong.kind.type, wrong.message, wrong.metadata) == ("route_unknown", "", None)


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
