"""How the suite is run: which lanes, dealt to how many workers, how patient with a machine that is slow."""

import contextlib
import gc
import importlib
import os
import time
import warnings
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests import lanes

# What depends on the pace of the machine is no failure: hypothesis measures neither an example nor how it is made.
hypothesis.settings.register_profile(
    "keyforge",
    parent=hypothesis.settings(),
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("keyforge")

_BEGUN = pytest.StashKey[float]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--lane", action="append", default=[], help="run the tests of this lane; `ci` is what CI runs")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_BEGUN] = time.monotonic()
    for lane in lanes.LANES:
        if lane.name != lanes.EVERYDAY:
            config.addinivalue_line("markers", f"{lane.name}: {lane.what}")
    try:
        lanes.asked(config.option.lane)
    except ValueError as fault:
        raise pytest.UsageError(str(fault)) from None
    given = getattr(config, "workerinput", None)
    chosen = _choose(config) if given is None else (given["lane"], given["files_of_any_lane"])
    config.option.lane, config.option.files_of_any_lane = chosen


def _choose(config: pytest.Config) -> tuple[list[str], list[str]]:
    """Return the lanes to run, and the files that run whatever their lane.

    What is named needs no `--lane`: a folder is all lanes that CI runs, a file or a test runs whatever its lane.
    """
    if config.args_source is not pytest.Config.ArgsSource.ARGS or config.option.lane:
        return config.option.lane, []
    paths = [config.invocation_params.dir / arg.partition("::")[0] for arg in config.args]
    return [lanes.CI], [str(path.resolve()) for path in paths if path.is_file()]


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker what was chosen: it has other arguments than the process that starts it."""
    option = node.config.option
    node.workerinput["lane"], node.workerinput["files_of_any_lane"] = option.lane, option.files_of_any_lane


def pytest_collection(session: pytest.Session) -> None:
    """Import the tests of a whole lane, each worker beginning with other files.

    Every worker imports all of them, and the first to do so rewrites the asserts of a file and keeps it as bytecode,
    which takes half the time of a collection: in one order, all workers would do that for all files at once.
    """
    given = getattr(session.config, "workerinput", None)
    if given is None or session.config.args_source is pytest.Config.ArgsSource.ARGS:
        return
    files = sorted(Path(__file__).parent.glob("*/test_*.py"))
    begin = len(files) * int(given["workerid"].removeprefix("gw")) // given["workercount"]
    for file in (*files[begin:], *files[:begin]):
        # A fault or a warning is met by collection again, and reported.
        with contextlib.suppress(Exception), warnings.catch_warnings():
            warnings.simplefilter("error")
            importlib.import_module(f"tests.{file.parent.name}.{file.stem}")


def pytest_collection_finish() -> None:
    """Leave what was collected out of every later collection of garbage: it stays until the end."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the tests of the lanes that are asked for."""
    chosen, files = lanes.asked(config.option.lane), config.option.files_of_any_lane
    left: list[pytest.Item] = []
    out: list[pytest.Item] = []
    for item in items:
        try:
            lane = lanes.lane_of(mark.name for mark in item.iter_markers())
        except ValueError as fault:
            raise pytest.UsageError(f"{item.nodeid}: {fault}") from None
        (left if lane in chosen or str(item.path.resolve()) in files else out).append(item)
    items[:] = left
    config.hook.pytest_deselected(items=out)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Return 0 for a named part: it starts at once, in this process. `-n 2` deals that as well, `-n 0` nothing.

    For all else one more than there are cores: with two on two cores, those had nothing to do for a fifth of the time.
    """
    return 0 if config.args_source is pytest.Config.ArgsSource.ARGS else len(os.sched_getaffinity(0)) + 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Whole lanes say how long they took beside how long they may."""
    option = config.option
    if config.args_source is pytest.Config.ArgsSource.ARGS or option.collectonly or option.keyword or option.markexpr:
        return
    chosen = lanes.asked(config.option.lane)
    minutes = (time.monotonic() - config.stash[_BEGUN]) / 60
    terminalreporter.section("lanes")
    terminalreporter.line(f"{', '.join(sorted(chosen))}: {minutes:.1f} min, at most {lanes.minutes_max(chosen)}")
