"""openai-python's own tests of chat completions, embeddings and models, unchanged, against the edge.

They are fetched by name and version from the package index, into the user's cache and a venv of their own; nothing of
them is part of the project. Every one passes but those in `FAIL`, which fail for the reason there.
"""

import fcntl
import hashlib
import json
import os
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from deploy.install import mirror

from keyforge.testkit.gateway import Gateway, gateway_of
from keyforge.testkit.stack import Stack
from tests.e2e.key_forwarder import KeyForwarder

ROOT = Path(__file__).parents[2]
VERSION = "3.54.0"
SHA256 = "2e393e63f8a38be6452806f9ef0b6534fecd6d41ab3b2165180dfce3599249cd"
TESTS = ("chat/test_completions.py", "test_embeddings.py", "test_models.py")
TESTS_MIN = 180
BESIDE = ("pytest", "pytest-asyncio", "rich")
"""What their tests import, in our own versions."""
THEIR_KEY = "My API Key"
EMBEDDER = "text-embedding-3-small"
FLOATS = json.dumps(
    {
        "object": "list",
        "model": EMBEDDER,
        "data": [{"object": "embedding", "index": 0, "embedding": [0.125]}],
        "usage": {"prompt_tokens": 1, "total_tokens": 1},
    }
)
"""What they are meant to run against answers with floats, also where their client asks for base64, which their strict
mode does not take."""
MODELS = ("gpt-6-astra", EMBEDDER)
INSTALL_S = 180
RUN_S = 240

STORED = "stored completions are the provider's, and belong to no virtual key"
FAIL = {
    **{
        f"Completions.test_{form}_{verb}": STORED
        for form in ("method", "raw_response", "streaming_response")
        for verb in ("retrieve", "update", "list", "delete")
    },
    "Completions.test_method_list_with_all_params": STORED,
    **{
        f"Completions.test_method_create_with_all_params_overload_{number}": "audio, a web search and caps of 0"
        for number in (1, 2)
    },
    **{
        f"Models.test_{form}_delete": "a provider's model is not an agent's to delete"
        for form in ("method", "raw_response", "streaming_response")
    },
}
"""What must fail, of their synchronous and asynchronous tests alike, and why."""


def cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "keyforge-tests" / f"openai-python-{VERSION}"


@pytest.fixture(scope="module")
def theirs() -> Path:
    """Their source distribution, with a venv in it; skips where it cannot be had."""
    folder = cache()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        source = folder / f"openai-{VERSION}"
        wanted = f"{SHA256}\n{sys.version}\n" + "\n".join(f"{name}=={version(name)}" for name in BESIDE)
        stamp = folder / "ready"
        if not stamp.exists() or stamp.read_text() != wanted:
            try:
                fetch(folder)
                install(source / "venv")
            except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as fault:
                words = (fault.stderr or b"")[-300:].decode("utf-8", "replace")
                pytest.skip(f"openai {VERSION} cannot be installed: {words or fault}")
            stamp.write_text(wanted)
    return source


def fetch(folder: Path) -> None:
    """Download the distribution, check that it is the one that is meant, and unpack it."""
    pip = (ROOT / ".venv-tool/bin/python", "-m", "pip", "--quiet", "--disable-pip-version-check", "download")
    named = folder / "requirements.txt"
    named.write_text(f"openai=={VERSION} --hash=sha256:{SHA256}\n")
    options = ("--no-deps", "--no-binary=openai", "--require-hashes", "--dest", folder, "--requirement", named)
    run(*pip, *options)
    archive = folder / f"openai-{VERSION}.tar.gz"
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == SHA256
    with tarfile.open(archive) as packed:
        # Pythons before 3.11.4 have no filters; the digest says what is in it
        packed.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
        packed.extractall(folder)


def install(venv: Path) -> None:
    uv = ROOT / ".venv-tool/bin/uv"
    run(uv, "venv", "--quiet", "--clear", "--python", sys.executable, venv)
    wanted = (f"openai[aiohttp]=={VERSION}", *(f"{name}=={version(name)}" for name in BESIDE))
    run(uv, "pip", "install", "--quiet", "--python", venv / "bin/python", *wanted)


def run(*command: str | Path) -> None:
    environment = {**os.environ, **({"UV_DEFAULT_INDEX": index} if (index := mirror()) else {})}
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=INSTALL_S)


def outcomes(theirs: Path, url: str, report: Path) -> dict[str, str]:
    """Run their tests; return by name what became of each: empty where it passed, else the first line of why not."""
    files = [f"tests/api_resources/{name}" for name in TESTS]
    options = ["--override-ini=addopts=", "-p", "no:cacheprovider", "-q", "--tb=no", f"--junitxml={report}"]
    environment = {
        **{name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ},
        "TEST_API_BASE_URL": url,
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        [theirs / "venv/bin/python", "-m", "pytest", *options, *files],
        cwd=theirs,
        env=environment,
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )
    assert report.exists(), done.stdout[-2000:] + done.stderr[-2000:]
    found: dict[str, str] = {}
    for case in ET.parse(report).iter("testcase"):
        wrong = [one for one in case if one.tag in ("failure", "error", "skipped")]
        name = f"{case.get('classname', '').rpartition('.')[2]}.{case.get('name')}"
        found[name] = " ".join(f"{one.tag}: {one.get('message')}" for one in wrong)
    return found


def plain(name: str) -> str:
    """Return the name of a test as `FAIL` has it."""
    return name.partition("[")[0].removeprefix("Test").removeprefix("Async")


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    """A stack of its own: their names of models have no provider, so only one provider may have them."""
    stack = Stack(tmp_path / "home")
    stack.start()
    try:
        with gateway_of(stack) as opened:
            yield opened
    finally:
        stack.stop()


@pytest.mark.clients
def test_their_own_tests_pass(
    theirs: Path, gateway: Gateway, new_tenant: Callable[[Gateway], str], tmp_path: Path
) -> None:
    for model in MODELS:
        price = {"input_per_mtok": "1", "output_per_mtok": "2", "max_output_tokens": 1_000}
        gateway.operator("keys", "PUT", f"/v1/prices/sim/{model}", price)
    gateway.script({"body": FLOATS}, model=EMBEDDER)
    key = gateway.key(new_tenant(gateway), [{"unit": "usd", "window": "day", "cap": "10"}])
    with KeyForwarder(gateway.stack.url("edge"), THEIR_KEY, key.text) as forwarder:
        found = outcomes(theirs, f"{forwarder.url}/v1", tmp_path / "report.xml")
    assert len(found) >= TESTS_MIN
    assert {plain(name) for name in found} >= FAIL.keys(), "a test of theirs that is no more"
    failed = {name: why for name, why in found.items() if why and plain(name) not in FAIL}
    assert not failed
    assert not [name for name, why in found.items() if plain(name) in FAIL and not why], "this passes now"
    gateway.wait_settled(key)
