"""Tries all faults, a few at a time, and reports: what noticed each, and which survived without a reason."""

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.mutants import faults as table
from tests.mutants import trial
from tests.mutants.faults import ROOT, TABLES, Fault, StaleFault
from tests.mutants.trial import Trial

Result = tuple[Fault, Trial]


def main(arguments: Sequence[str]) -> int:
    """Run it. Returns 0 if every fault is noticed or has its reason, 1 if not, 2 for what cannot be tried."""
    options = _options(arguments)
    root, jobs = options.root.resolve(), options.jobs
    try:
        faults = table.chosen(table.load(options.faults), options.names)
        for fault in faults:
            table.check(fault, root)
    except ValueError as error:
        print(f"{'stale' if isinstance(error, StaleFault) else 'mutants'}: {error}", file=sys.stderr)
        return 2
    trial.prepare()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # ends what runs, as Ctrl-C does
    files = sorted({test.partition("::")[0] for fault in faults for test in fault.tests})
    print(f"without a fault: {len(files)} files of tests", file=sys.stderr)
    if wrong := [one for one in trial.run(((None, [file]) for file in files), jobs=jobs, root=root) if not _whole(one)]:
        print(*(f"fails without a fault: {one.by or one.tests[0]}\n{one.said}" for one in wrong), file=sys.stderr)
        return 2
    results = _try_all(faults, root, jobs)
    print(json.dumps([_row(*result) for result in results], indent=1) if options.json else _table(results))
    return int(any(not _may(*result) for result in results))


def _options(arguments: Sequence[str]) -> Any:
    parser = argparse.ArgumentParser(prog="./taskw mutants --", description=__doc__)
    parser.add_argument("names", nargs="*", help="part of the names of the faults to try; all without one")
    parser.add_argument("--json", action="store_true", help="write the results as JSON")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="so many at a time")
    parser.add_argument("--faults", type=Path, default=TABLES, help="the folder of the tables of faults")
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout")
    return parser.parse_args(arguments)


def _whole(one: Trial) -> bool:
    return one.verdict == "survived"


def _try_all(faults: Sequence[Fault], root: Path, jobs: int) -> list[Result]:
    """Try them, show progress, and return the results in the order of the faults."""
    found: dict[Fault, Trial] = {}
    for one in trial.run(((fault, fault.tests) for fault in faults), jobs=jobs, root=root):
        assert one.fault is not None
        found[one.fault] = one
        print(f"[{len(found)}/{len(faults)}] {one.verdict:8} {one.seconds:5.1f} s  {one.fault}", file=sys.stderr)
    return [(fault, found[fault]) for fault in faults]


def _may(fault: Fault, one: Trial) -> bool:
    """Return whether it may come out so: noticed, or a survivor of which the table says why."""
    return one.verdict == ("survived" if fault.reason else "noticed")


def _row(fault: Fault, one: Trial) -> dict[str, Any]:
    return {
        "area": fault.area,
        "name": fault.name,
        "file": fault.file,
        "verdict": one.verdict,
        "by": one.by,
        "seconds": round(one.seconds, 1),
        "reason": fault.reason,
    }


def _table(results: Sequence[Result]) -> str:
    width = max((len(str(fault)) for fault, _ in results), default=0)
    lines = [f"{fault!s:{width}}  {one.seconds:5.1f} s  {one.by or one.verdict}" for fault, one in results]
    lines += ["", f"{len(results)} faults, {sum(one.verdict == 'noticed' for _, one in results)} noticed"]
    for fault, one in results:
        if one.verdict == "survived":
            lines.append(f"survived: {fault}" + (f" ({fault.reason})" if fault.reason else ""))
        elif one.verdict == "broken":
            lines += [f"broken: {fault}", one.said]
        elif fault.reason:
            lines.append(f"noticed, so its reason is none: {fault}")
    return "\n".join(lines)
