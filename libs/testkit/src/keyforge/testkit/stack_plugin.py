"""A pytest plugin: the whole stack as fixtures: one for the run, others for tests that need their own."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from keyforge.testkit.stack import Stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One stack for the whole run. Create a tenant of your own in it; what you kill or pause, leave healthy."""
    running = Stack(tmp_path_factory.mktemp("stack") / "home")
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture
def fresh_stack(new_stack: Callable[..., Stack]) -> Stack:
    """A stack for this test alone, started."""
    fresh = new_stack()
    fresh.start()
    return fresh


@pytest.fixture
def new_stack(tmp_path: Path) -> Iterator[Callable[..., Stack]]:
    """A function that returns a stack for this test alone, not yet started, with `environment` added to its own."""
    made: list[Stack] = []

    def make(**environment: str) -> Stack:
        made.append(Stack(tmp_path / f"home{len(made) + 1}", environment=environment))
        return made[-1]

    try:
        yield make
    finally:
        for one in made:
            one.stop()
