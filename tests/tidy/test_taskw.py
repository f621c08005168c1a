"""taskw as a stranger meets it: what it says when something is missing, and that signals reach what it starts."""

import os
import runpy
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.tidy.tree import ROOT

POSIX_TOOLS = ("dirname", "cat", "cksum", "sh")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what taskw reads, below a folder with a space in its name, with nothing installed."""
    top = tmp_path / "a folder" / "keyforge"
    (top / "deploy").mkdir(parents=True)
    copied = ("taskw", "Taskfile.yml", "requirements.lock", "pyproject.toml", "deploy/tools.lock", "deploy/install.py")
    for path in copied:
        shutil.copy(ROOT / path, top / path)
    for member in ROOT.glob("*/*/pyproject.toml"):
        copy = top / member.relative_to(ROOT)
        copy.parent.mkdir(parents=True)
        shutil.copy(member, copy)
    return top


@pytest.fixture
def installed(checkout: Path) -> Path:
    """The same with an installer that makes programs which say what they are given."""
    tell = '#!/bin/sh\necho "$$|$KEYFORGE_HOME|$PWD|$*"\n'
    (checkout / "deploy" / "install.py").write_text(
        textwrap.dedent(f"""\
            import pathlib, sys
            print("installing", file=sys.stderr)
            for name in (".venv/bin/keyforge", ".venv/bin/python", ".venv-tool/bin/task"):
                program = pathlib.Path(__file__).parents[1] / name
                program.parent.mkdir(parents=True, exist_ok=True)
                program.write_text({tell!r})
                program.chmod(0o755)
            (program.parents[2] / ".venv" / "installed.stamp").write_text(sys.argv[1])
            """)
    )
    return checkout


def run(top: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "KEYFORGE_HOME"}
    environment |= {"TASKW_PYTHON": sys.executable, **variables}
    command = (str(top / "taskw"), *arguments)
    return subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, check=False)


def tools_only(folder: Path, python: str) -> str:
    """A PATH with what POSIX promises and a `python3` that does as it is told."""
    folder.mkdir()
    for tool in POSIX_TOOLS:
        (folder / tool).symlink_to(shutil.which(tool) or pytest.fail(f"{tool} is not here"))
    if python:
        (folder / "python3").write_text(f"#!/bin/sh\n{python}\n")
        (folder / "python3").chmod(0o755)
    return str(folder)


@pytest.mark.parametrize(
    ("python", "words"),
    [
        pytest.param("", "no Python 3.11 or newer found", id="no python"),
        pytest.param("exit 1", "no Python 3.11 or newer found", id="an old python, or a shim of none"),
        pytest.param('case "$2" in *venv*) exit 1;; esac', "has no venv module", id="no venv"),
    ],
)
def test_what_is_missing_is_said_in_one_line(checkout: Path, tmp_path: Path, python: str, words: str) -> None:
    done = run(checkout, "up", TASKW_PYTHON="", PATH=tools_only(tmp_path / "bin", python))
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (checkout / ".venv").exists()


@pytest.mark.parametrize(
    ("paces", "chosen"),
    [
        pytest.param({"python3": 1000, "python3.12": 910}, "python3", id="hardly faster"),
        pytest.param({"python3": 1000, "python3.12": 890}, "python3.12", id="faster"),
        pytest.param({"python3": 1000, "python3.12": 600, "python3.11": 700}, "python3.12", id="the fastest"),
        pytest.param({"python3": 1000, "python3.12": 0}, "python3", id="one that cannot be used"),
    ],
)
def test_a_much_faster_interpreter_is_taken(
    installed: Path, tmp_path: Path, paces: dict[str, int], chosen: str
) -> None:
    folder = tools_only(tmp_path / "bin", "")
    # The first argument of the installer is its own path; a pace is asked for with -c. The real ones are not faster.
    real = f'exec "{sys.executable}" "$@"'
    for name, pace in paces.items():
        told = f"*perf_counter*) echo {pace}; exit {int(not pace)};;"
        script = f'#!/bin/sh\ncase "$2" in {told} esac\ncase "$1" in -c) ;; *) echo "with {name}" >&2;; esac\n{real}\n'
        (Path(folder) / name).write_text(script)
        (Path(folder) / name).chmod(0o755)
    taskw = installed / "taskw"
    taskw.write_text(taskw.read_text().replace("/usr/bin/python3 /usr/local/bin/python3 ", ""))
    said = run(installed, "kf", TASKW_PYTHON="", PATH=folder).stderr
    assert f"with {chosen}" in said.splitlines()
    assert (f"taskw: {chosen} needs" in said) == (chosen != "python3")
    assert "taskw:" not in run(installed, "kf", TASKW_PYTHON="python3", PATH=folder).stderr


def test_a_copied_environment_is_made_anew(tmp_path: Path) -> None:
    here, copied = ROOT / ".venv", tmp_path / ".venv"
    (copied / "bin").mkdir(parents=True)
    shutil.copy(here / "bin" / "activate", copied / "bin")
    made_here = runpy.run_path(str(ROOT / "deploy" / "install.py"))["made_here"]
    assert [made_here(venv) for venv in (here, copied, tmp_path / "none")] == [True, False, False]


def test_it_installs_when_something_changed_and_only_then(installed: Path) -> None:
    assert "installing" in run(installed, "kf").stderr
    assert "installing" not in run(installed, "kf").stderr
    with (installed / "services" / "edge" / "pyproject.toml").open("a") as file:
        file.write("# changed\n")
    assert "installing" in run(installed, "kf").stderr
    moved = installed.rename(installed.with_name("moved"))
    assert "installing" in run(moved, "kf").stderr


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        pytest.param(("up",), "up", id="up"),
        pytest.param(("up", "--", "--json"), "up --json", id="up with arguments"),
        pytest.param(("kf", "--", "key", "list"), "key list", id="the command line"),
        pytest.param(("kf", "key", "list"), "key list", id="without dashes"),
    ],
)
def test_state_belongs_to_the_checkout(installed: Path, arguments: tuple[str, ...], given: str) -> None:
    _, home, _, told = run(installed, *arguments).stdout.strip().split("|")
    assert told == given
    assert home == str(installed / ".keyforge")
    assert run(installed, *arguments, KEYFORGE_HOME="/elsewhere").stdout.split("|")[1] == "/elsewhere"


def test_a_task_that_is_none_is_refused_before_anything_is_installed(checkout: Path) -> None:
    for name in ("upp", "u*", "desc", "PY"):
        done = run(checkout, name)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"taskw: there is no task {name}; ./taskw alone lists what there is\n"


@pytest.mark.parametrize("arguments", [(), ("--list",), ("lint",), ("test:unit", "--", "-x")], ids=" ".join)
def test_every_other_task_is_left_to_task(installed: Path, arguments: tuple[str, ...]) -> None:
    told = run(installed, *arguments).stdout.strip().split("|")[3]
    assert told.endswith(" ".join(("--exit-code", *(arguments or ("--list",)))))


def test_pytest_runs_in_the_checkout_and_has_the_last_word(installed: Path) -> None:
    _, _, folder, told = run(installed, "test", "--", "-k", "a or b").stdout.strip().split("|")
    assert folder == str(installed)
    assert told == "-m pytest -k a or b"


def test_all_else_goes_to_task(installed: Path) -> None:
    told = run(installed, "lint", "--", "x").stdout.strip().split("|")[3]
    assert told == f"--dir {installed} --exit-code lint -- x"
    assert run(installed).stdout.strip().endswith("--list")


def test_a_signal_reaches_the_supervisor(installed: Path) -> None:
    """`up` is the very process that was started: what ends taskw ends the stack."""
    run(installed, "kf")
    (installed / ".venv/bin/keyforge").write_text(
        "#!/bin/sh\ntrap 'echo ended; exit 7' TERM\necho $$\nwhile :; do sleep 0.05; done\n"
    )
    command = (str(installed / "taskw"), "up")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert int(process.stdout.readline()) == process.pid
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == 7
            assert process.stdout.read() == "ended\n"
        finally:
            process.kill()
