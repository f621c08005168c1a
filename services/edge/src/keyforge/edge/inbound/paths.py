"""What a path of the agents' API means: a route, a model, or which route was probably meant.

A path that is none is refused, never served or redirected by guess: what a client with a wrong base URL would then call
changes with each guess.
"""

from collections.abc import Mapping
from typing import Final

from keyforge.contracts.errors import Problem, problem
from keyforge.edge.core.dialects import registry

OPERATORS: Final = frozenset(("/healthz", "/readyz", "/metrics", "/openapi.json"))
"""What is for probes and operators: no page of another origin may read it."""

_MODELS: Final = {f"{prefix}/models": prefix for prefix in registry.PREFIXES}
"""Where models are listed, which costs nothing."""
_ENDPOINTS: Final = frozenset(
    [path.removeprefix(prefix) for path in registry.ROUTES for prefix in registry.PREFIXES if path.startswith(prefix)]
    + ["/models"]
)
_BASES: Final = frozenset(("v1", "v1beta", "api", "openai"))
"""What base URLs of providers end in, one or several of them."""
_PREFIX_OF: Final[Mapping[str, str]] = {prefix.split("/")[1]: prefix for prefix in registry.PREFIXES}
"""By the first segment of a path."""
_ROUTES: Final = ", ".join(
    [f"`{on.method} {path}`" for path, on in registry.ROUTES.items() if path.startswith("/v1/")]
    + ["`GET /v1/models`", "`GET /v1/models/{model}`"]
)
"""Those of one base URL: the others have the same."""
_DEPLOYMENTS: Final = (
    " There are no deployments: the model is named in the body. Use the client `OpenAI` in place of `AzureOpenAI`,"
    " which puts `/deployments/` after any base URL."
)


def model_of(path: str) -> str | None:
    """Return the model that a path is about, empty for the list of all; None: it is another path."""
    if path in _MODELS:
        return ""
    for models in _MODELS:
        if path.startswith(models + "/"):
            return path.removeprefix(models + "/") or None
    return None


def unknown(path: str) -> Problem:
    """Return the answer to a request for a path that is no route: with the one that it looks like, or with all."""
    segments = [segment for segment in path.lower().split("/") if segment]
    endpoint = _endpoint_of(segments)
    if not endpoint:
        return problem("route_unknown", f"This route does not exist. Those that do: {_ROUTES}.")
    prefix = _PREFIX_OF.get(segments[0], "/v1")
    right = prefix + endpoint
    message = (
        f"This route does not exist. Its path is `{right}`: a client's base URL is the address of this gateway with"
        f" `{prefix}`, and nothing after that."
    )
    if "deployments" in segments:
        message += _DEPLOYMENTS
    return problem("route_unknown", message, metadata={"path": right, "base_path": prefix})


def _endpoint_of(segments: list[str]) -> str:
    whole = "/" + "/".join(segments)
    for endpoint in _ENDPOINTS:
        if whole.endswith(endpoint):
            return endpoint
    while segments and segments[0] in _BASES:
        segments = segments[1:]
    return "/models/{model}" if segments[:1] == ["models"] else ""
