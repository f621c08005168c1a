"""What the end-to-end tests share: the session's stack seen from outside, and tenants of one's own in it."""

import itertools
from collections.abc import Callable, Iterator

import pytest

from keyforge.testkit.gateway import Gateway, gateway_of
from keyforge.testkit.stack import Stack

_NUMBERS = itertools.count(1)


@pytest.fixture
def gateway(stack: Stack) -> Iterator[Gateway]:
    """The session's stack. Script the simulator by a model of your own only: others use it, too."""
    with gateway_of(stack) as opened:
        yield opened


@pytest.fixture
def new_tenant() -> Callable[[Gateway], str]:
    """A function that makes a tenant for this test alone, and returns its id."""

    def make(gateway: Gateway) -> str:
        tenant = f"t{next(_NUMBERS)}"
        gateway.tenant(tenant)
        return tenant

    return make
