"""The conformance suite again, for our own client on uvloop, which is what the edge runs on."""

import inspect
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from keyforge.edge.outbound.provider_http.client import HttpUpstream
from tests.integration import test_edge_provider_coding as coding
from tests.integration import test_edge_provider_conformance as suite
from tests.integration import test_edge_provider_reuse as reuse
from tests.integration.edge_provider_origin import Step

SCENARIOS = [
    value
    for module in (suite, reuse, coding)
    for name, value in vars(module).items()
    if name.startswith("test_") and list(inspect.signature(value).parameters) == ["upstream"]
]


def run(scenario: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
    async def main() -> None:
        upstream = HttpUpstream(time.monotonic)
        await scenario(upstream, *args)
        await upstream.close()

    uvloop.run(main())


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_on_uvloop(scenario: Callable[..., Coroutine[Any, Any, None]]) -> None:
    run(scenario)


@pytest.mark.parametrize(("script", "error", "status"), suite.FAILURES)
def test_failures_on_uvloop(script: list[Any], error: type, status: Any) -> None:
    run(suite.test_every_failure_has_its_name, script, error, status)


@pytest.mark.parametrize(("ending", "unread"), reuse.UNREAD)
def test_calls_that_are_not_read_on_uvloop(ending: list[Step], unread: bool) -> None:
    run(reuse.test_a_call_on_a_connection_that_its_provider_closes_is_unread, ending, unread)
