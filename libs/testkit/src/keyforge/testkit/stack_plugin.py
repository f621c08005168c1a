"""A pytest plugin: the whole stack as fixtures: one for the run, others for tests that need their own."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from keyforge.testkit.stack import Stack


class SharedStack:
    """The stack of a run, started when a test first asks for it. `folder` is that of the tests that asked last."""

    def __init__(self, home: Path) -> None:
        self.folder = Path()
        self._stack = Stack(home)

    def running(self, folder: Path) -> Stack:
        """Start it, unless it runs, for the tests of a folder."""
        self.folder = folder
        self._stack.start()
        return self._stack

    def stop(self) -> None:
        """Stop it, if it runs."""
        self._stack.stop()


_SHARED = pytest.StashKey[SharedStack]()


@pytest.fixture(scope="module")
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """One stack for the whole run. Create a tenant of your own in it; what you kill or pause, leave healthy."""
    config = request.config
    if _SHARED not in config.stash:
        config.stash[_SHARED] = SharedStack(tmp_path_factory.mktemp("stack") / "home")
        config.add_cleanup(config.stash[_SHARED].stop)
    return config.stash[_SHARED].running(request.path.parent)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Stop the shared stack after the tests of its folder: idle, it takes 4 % of a core from those that follow."""
    shared = item.config.stash.get(_SHARED, None)
    if shared is not None and item.path.parent != shared.folder:
        shared.stop()


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
