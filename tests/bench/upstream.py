"""The provider of the bench's JSON requests: nginx, or a stub of ours where that is not installed."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx

from keyforge.testkit.nats_server import die_with_parent
from tests.bench import bodies
from tests.bench.measure import LOAD_CORE, wait_for
from tests.bench.stack import ROOT

NGINX = "nginx"
STUB = "a stub of ours"


class Upstream(NamedTuple):
    """What runs: its kind and process, and the path of the request's body."""

    kind: str
    pid: int
    body: Path


@contextmanager
def upstream(folder: Path, port: int) -> Iterator[Upstream]:
    """Run the provider on this port."""
    body, conf = bodies.write(folder, port)
    kind = NGINX if shutil.which(NGINX) else STUB
    own = [NGINX, "-c", str(conf)] if kind == NGINX else [sys.executable, "-m", "tests.bench.plain_stub", str(port)]
    process = subprocess.Popen(
        ["taskset", "-c", LOAD_CORE, *own],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call, no lock
    )
    try:
        wait_for("the upstream", lambda: answers(f"http://127.0.0.1:{port}/", body, ""), seconds=30)
        yield Upstream(kind, process.pid, body)
    finally:
        process.terminate()
        process.wait(10)


def answers(url: str, body: Path, header: str) -> bool:
    """Say whether `url` answers the bench's request with its answer."""
    headers = dict(line.split(": ", 1) for line in header.split("\t") if line)
    try:
        got = httpx.post(url, content=body.read_bytes(), headers={"content-type": "application/json", **headers})
    except httpx.HTTPError:
        return False
    return got.status_code == 200 and "duplicated charge" in got.text
