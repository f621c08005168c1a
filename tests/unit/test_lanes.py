"""The lanes of the suite: what is asked for by name, where a test belongs, and that no lane is empty or forgotten."""

import re
import subprocess
import sys

import pytest

from tests import lanes
from tests.lanes import Lane, asked, lane_of, minutes_max
from tests.tidy.tree import ROOT, sources

# One more than there is, of the kind that is added: run by CI, not with every change.
SOME = (*lanes.LANES, Lane("chart", "invented here", 5, in_ci=True), Lane("sim", "invented here", 20, in_ci=True))


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        pytest.param([], {"test"}, id="the everyday lane if none is named"),
        pytest.param(["slow"], {"slow"}, id="one"),
        pytest.param(["test", "chart"], {"test", "chart"}, id="two"),
        pytest.param(["ci"], {"test", "stack", "cluster", "clients", "chart", "sim"}, id="all of CI, none by hand"),
    ],
)
def test_asked(names: list[str], chosen: set[str]) -> None:
    assert asked(names, SOME) == chosen


def test_a_lane_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"--lane=fast: one of chart, ci, clients, cluster, sim, slow, stack, test"):
        asked(["fast"], SOME)


@pytest.mark.parametrize(
    ("marks", "lane"),
    [
        pytest.param([], "test", id="no mark"),
        pytest.param(["timeout", "parametrize"], "test", id="marks of other kinds"),
        pytest.param(["timeout", "chart"], "chart", id="a lane's"),
    ],
)
def test_lane_of(marks: list[str], lane: str) -> None:
    assert lane_of(marks, SOME) == lane


def test_a_test_is_in_one_lane() -> None:
    with pytest.raises(ValueError, match="not in chart and slow"):
        lane_of(["slow", "chart"], SOME)


@pytest.mark.parametrize(
    ("names", "minutes"),
    [
        pytest.param({"test"}, 6, id="everyday"),
        pytest.param({"test", "chart"}, 11, id="the sum"),
        pytest.param({"test", "chart", "sim"}, lanes.CI_MINUTES_MAX, id="never beyond what CI has"),
        pytest.param({"slow"}, 60, id="by hand"),
    ],
)
def test_minutes_max(names: set[str], minutes: int) -> None:
    assert minutes_max(frozenset(names), SOME) == minutes


@pytest.mark.parametrize("lane", lanes.LANES[1:], ids=lambda lane: lane.name)
def test_a_lane_that_is_registered_has_tests_and_runs_nothing_else(lane: Lane) -> None:
    mark = f"pytest.mark.{lane.name}"
    marked = [source.path for source in sources() if "/test_" in source.path and mark in source.text]
    assert collected(f"--lane={lane.name}", marked[0], "tests/unit/test_lanes.py") == {marked[0]}


STACK, SLOW, EVERYDAY = "tests/e2e/test_log_full.py", "tests/unit/test_long_runs.py", "tests/unit/test_pace.py"
OTHERS = "*/test_[!lp]*"
"""To read only some files of a folder is enough here, and takes a third of the time."""


@pytest.mark.parametrize(
    ("arguments", "files"),
    [
        pytest.param(
            (f"{STACK}::test_full_and_then_room_again", SLOW), {STACK, SLOW}, id="a test, a file: of any lane"
        ),
        pytest.param(
            (
                "tests/unit",
                "tests/e2e",
                f"--ignore-glob={OTHERS}",
                "-k",
                "test_long_runs or test_pace or test_log_full",
            ),
            {STACK, EVERYDAY},
            id="folders: the lanes of CI",
        ),
        pytest.param((STACK, EVERYDAY, "--lane=test"), {EVERYDAY}, id="no lane but the one that is asked for"),
    ],
)
def test_what_is_named_needs_no_lane(arguments: tuple[str, ...], files: set[str]) -> None:
    assert collected(*arguments) == files


def collected(*arguments: str) -> set[str]:
    """The files of the tests that would run."""
    command = (sys.executable, "-m", "pytest", "--collect-only", "-q", "-n", "0", *arguments)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return {line.partition("::")[0] for line in done.stdout.splitlines() if "::" in line}


def test_this_run_has_the_lanes_that_were_asked_for(request: pytest.FixtureRequest) -> None:
    option = request.config.option
    items = [item for item in request.session.items if str(item.path.resolve()) not in option.files_of_any_lane]
    assert {lane_of(mark.name for mark in item.iter_markers()) for item in items} <= asked(option.lane)


def test_ci_runs_its_lanes_in_one_run_of_pytest() -> None:
    last = (ROOT / ".ci" / "run").read_text().splitlines()[-1]
    assert last == 'exec ./taskw test -- --lane=ci "$@"'
    assert "--lane=slow" in (ROOT / "Taskfile.yml").read_text()


def test_contributors_read_of_every_lane() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for lane in lanes.LANES:
        with_quotes = re.sub(r"(\./taskw [\w:]+)", r"`\1`", lane.what)
        assert f"| `{lane.name}` | {with_quotes} | {lane.minutes_max} | {'yes' if lane.in_ci else 'no'} |\n" in text
    assert f"{lanes.CI_MINUTES_MAX} minutes at most" in text


@pytest.mark.parametrize("path", ["README.md", "Taskfile.yml", "taskw"])
def test_nobody_is_told_that_the_everyday_lane_is_every_test(path: str) -> None:
    text = (ROOT / path).read_text()
    assert "everyday tests" in text
    assert not re.search(r"every (check and )?test\b", text)
