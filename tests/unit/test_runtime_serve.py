"""What a service ends with once it has begun to serve."""

import asyncio
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from keyforge.runtime.http import new_app
from keyforge.runtime.serve import FAILED, CannotListenError, listen, serve
from keyforge.runtime.settings import ServiceSettings
from keyforge.testkit.ports import free_ports


class Readiness:
    """Always ready."""

    def checks(self) -> dict[str, bool]:
        return {}

    def details(self) -> dict[str, Any]:
        return {}


async def ended(failure: Exception | None, stopping: Exception | None = None) -> int:
    """Serve until a future of the service is done; return the exit code."""
    failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    if failure is None:
        failed.set_result(None)
    else:
        failed.set_exception(failure)

    async def stop() -> None:
        if stopping is not None:
            raise stopping

    settings = ServiceSettings(port=free_ports(1)[0], instance="one", key_secret=SecretStr("0b" * 32))
    return await serve(new_app("One", Readiness(), CollectorRegistry()), settings, stop=stop, failed=failed)


@pytest.mark.parametrize(
    ("failure", "stopping", "code"),
    [
        pytest.param(None, None, 0, id="it is stopped"),
        pytest.param(OSError("lost"), None, FAILED, id="a part of it fails"),
        pytest.param(None, OSError("lost"), FAILED, id="it cannot stop in order"),
    ],
)
async def test_a_fault_while_it_runs_is_not_one_at_a_start(
    failure: Exception | None, stopping: Exception | None, code: int
) -> None:
    assert await ended(failure, stopping) == code


def test_every_address_of_a_host_is_bound_or_none() -> None:
    (port,) = free_ports(1)
    bound = listen("localhost", port)
    try:
        assert {one.getsockname()[1] for one in bound} == {port}
        bound[0].listen()
        with pytest.raises(
            CannotListenError, match=rf"^KEYFORGE_X: cannot listen on port {port} of localhost: Address"
        ):
            listen("localhost", port, "KEYFORGE_X")
    finally:
        for one in bound:
            one.close()
