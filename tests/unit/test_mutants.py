"""The faults that tests must notice fit the product and the tests, and the program that tries them says what is so."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.mutants import faults, run, trial
from tests.mutants.faults import ROOT, TABLES, Fault, StaleFault
from tests.mutants.trial import Trial, Verdict

FAULTS_MIN = 100
AREA_MIN = 8
AREAS = ("cores-", "committer", "tokens", "dispatch", "verifier")
"""What a fault costs most: who pays what, who may come in, what is on record."""

SUMS = '''"""Toys."""


def plus(one, other):
    return one + other


def least(one, other):
    return min(one, other)
'''
TESTS = "from keyforge.toy.sums import plus\n\n\ndef test_plus():\n    assert plus(2, 3) == 5\n"
TEST = "tests/test_sums.py"


@pytest.mark.parametrize("table", sorted(TABLES.glob("*.toml")), ids=lambda table: table.stem)
def test_every_fault_fits_the_product_and_its_tests_are_there(table: Path) -> None:
    stale = []
    for fault in faults.load():
        if fault.area == table.stem:
            try:
                faults.check(fault)
            except StaleFault as error:
                stale.append(str(error))
    assert not stale, "\n".join(stale)


def test_there_are_many_in_every_area() -> None:
    areas = Counter(fault.area for fault in faults.load())
    assert areas.total() >= FAULTS_MIN
    assert dict.fromkeys(AREAS, True) == {
        area: sum(count for name, count in areas.items() if name.startswith(area)) >= AREA_MIN for area in AREAS
    }


def fault(name: str = "a", old: str = "one + other", new: str = "one - other", **changed: Any) -> Fault:
    fields: dict[str, Any] = {"area": "toy", "file": "toy/sums.py", "tests": (TEST,), **changed}
    return Fault(name=name, old=old, new=new, **fields)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout of one member with one test."""
    files = {"libs/toy/src/keyforge/toy/__init__.py": "", "libs/toy/src/keyforge/toy/sums.py": SUMS, TEST: TESTS}
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        pytest.param({"old": "one * other"}, "is in toy/sums.py 0 times, not once", id="it is gone"),
        pytest.param({"old": "other"}, "is in toy/sums.py 4 times, not once", id="it is there several times"),
        pytest.param({"new": "one  +  other"}, "it changes nothing", id="another spelling"),
        pytest.param({"new": "one +"}, "toy/sums.py does not parse with it", id="no Python"),
        pytest.param({"file": "toy/gone.py"}, "there is no file toy/gone.py", id="no file"),
        pytest.param({"tests": ()}, "no test is named", id="no test"),
        pytest.param({"tests": ("tests/test_gone.py",)}, "there is no file tests/test_gone.py", id="no file of tests"),
        pytest.param({"tests": (f"{TEST}::test_gone",)}, f"there is no test {TEST}::test_gone", id="no such test"),
    ],
)
def test_a_fault_that_no_longer_fits_is_named(checkout: Path, changed: dict[str, Any], why: str) -> None:
    faults.check(fault(), checkout)
    with pytest.raises(StaleFault, match=f"toy: a: .*{why}"):
        faults.check(fault(**changed), checkout)


def write(checkout: Path, *rows: Fault) -> Path:
    """Write a table of these faults."""
    folder = checkout / "faults"
    folder.mkdir()
    text = ""
    for row in rows:
        fields = {"name": row.name, "file": row.file, "old": row.old, "new": row.new, "reason": row.reason}
        text += "[[fault]]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in fields.items())
        text += f"tests = {json.dumps(row.tests)}\n"
    (folder / "toy.toml").write_text(text)
    return folder


def tried(checkout: Path, *rows: Fault, arguments: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run them in a process of their own: nothing of the product may be imported before."""
    command = [sys.executable, "-m", "tests.mutants", "--root", str(checkout), "--faults", str(write(checkout, *rows))]
    environment = os.environ | {"PYTHONPATH": str(checkout / "libs/toy/src")}  # as a member is installed
    return subprocess.run(
        [*command, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def test_what_is_noticed_and_what_is_not_is_said(checkout: Path) -> None:
    rows = [
        fault("noticed"),
        fault("survives", "min(one, other)", "max(one, other)"),
        fault("survives for a reason", "min(one, other)", "min(other, one)", reason="They are the same."),
        fault("noticed after all", reason="None."),
        fault("ends the import", "def plus", "def minus"),
    ]
    done = tried(checkout, *rows, arguments=("--json", "--jobs", "2"))
    assert done.returncode == 1, done.stderr
    assert {row["name"]: (row["verdict"], row["by"]) for row in json.loads(done.stdout)} == {
        "noticed": ("noticed", f"{TEST}::test_plus"),
        "survives": ("survived", ""),
        "survives for a reason": ("survived", ""),
        "noticed after all": ("noticed", f"{TEST}::test_plus"),
        "ends the import": ("broken", TEST),
    }
    assert "[5/5]" in done.stderr
    assert (checkout / "libs/toy/src/keyforge/toy/sums.py").read_text() == SUMS


def test_a_run_in_which_all_is_noticed_ends_with_0(checkout: Path) -> None:
    done = tried(checkout, fault())
    assert "1 faults, 1 noticed" in done.stdout
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("reason", "verdict", "may", "words"),
    [
        pytest.param("", "noticed", True, "1 faults, 1 noticed", id="noticed"),
        pytest.param("", "survived", False, "survived: toy: a", id="survived"),
        pytest.param("The same.", "survived", True, "survived: toy: a (The same.)", id="survived, for a reason"),
        pytest.param(
            "The same.", "noticed", False, "noticed, so its reason is none: toy: a", id="a reason that is none"
        ),
        pytest.param("", "broken", False, "broken: toy: a\nno end", id="broken"),
        pytest.param("The same.", "broken", False, "broken: toy: a\nno end", id="broken, with a reason"),
    ],
)
def test_what_may_come_out_and_what_is_said_of_it(reason: str, verdict: Verdict, may: bool, words: str) -> None:
    one = fault(reason=reason)
    came = Trial(one, one.tests, verdict, 1.0, said="no end")
    assert run._may(one, came) is may
    assert words in run._table([(one, came)])


def test_a_test_that_fails_without_a_fault_notices_nothing(checkout: Path) -> None:
    (checkout / TEST).write_text(TESTS.replace("== 5", "== 6"))
    done = tried(checkout, fault())
    assert (done.returncode, done.stdout) == (2, "")
    assert f"fails without a fault: {TEST}::test_plus" in done.stderr


def test_stale_faults_end_the_run_before_it_begins(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = write(checkout, fault("one"), fault("two", old="gone"))
    assert run.main(["--root", str(checkout), "--faults", str(table)]) == 2
    assert "stale: toy: two: " in capsys.readouterr().err
    assert run.main(["--root", str(checkout), "--faults", str(table), "three"]) == 2
    assert "no fault is called 'three'" in capsys.readouterr().err


def test_names_choose() -> None:
    rows = [fault("one"), fault("two"), fault("one more")]
    assert [str(row) for row in faults.chosen(rows, ["toy: one", "two"])] == ["toy: one", "toy: two", "toy: one more"]
    assert faults.chosen(rows, ["more"]) == rows[2:]
    assert faults.chosen(rows, []) == rows


def test_nothing_is_tried_where_the_product_is_imported_already() -> None:
    """A fault in what was imported before would survive, and nobody could tell why."""
    assert "keyforge.testkit.plugin" in sys.modules
    with pytest.raises(RuntimeError, match=r"keyforge\.\S+ is imported already"):
        trial.prepare()
