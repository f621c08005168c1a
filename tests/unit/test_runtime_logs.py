"""Nothing that looks like a secret survives a log line."""

import json
import logging
import os
import subprocess
import sys

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from keyforge.contracts import keyformat
from keyforge.runtime import logs

SECRETS = keyformat.KeySecrets.derive(b"fixture root secret, 32 bytes....")
KEY = keyformat.mint("vk", SECRETS, bytes(9), bytes(range(32))).text
TOKEN = keyformat.mint("kfa", SECRETS, bytes(9), bytes(range(32))).text
PROVIDER = "sk-proj-fixture0123456789abcdef"
GOOGLE = "AIzaSyFixture0123456789abcdefghijklmnop"
CANARIES = [KEY, TOKEN, PROVIDER, GOOGLE]


@pytest.mark.parametrize("canary", CANARIES)
@pytest.mark.parametrize(
    "wrap",
    [
        lambda canary: canary,
        lambda canary: f"Bearer {canary}",
        lambda canary: {"error": {"detail": [f"key={canary};"]}},
        lambda canary: RuntimeError(f"no such thing: {canary}"),
        lambda canary: {"authorization": canary},
        lambda canary: canary.encode(),
        lambda canary: (1, [canary]),
        lambda canary: {canary: 1},
    ],
)
def test_a_canary_never_gets_through(canary: str, wrap: object) -> None:
    assert canary not in json.dumps(logs.redact(wrap(canary)))  # type: ignore[operator]


@given(st.text(max_size=20), st.sampled_from(CANARIES), st.text(max_size=20))
def test_whatever_stands_around_it(before: str, canary: str, after: str) -> None:
    assert canary not in logs.redact(f"{before} {canary} {after}")


def test_passwords_in_urls_go_and_the_rest_stays() -> None:
    assert logs.redact("nats://edge:fixture-password@127.0.0.1:4222") == "nats://[redacted]@127.0.0.1:4222"
    assert logs.redact({"tenant": "demo", "count": 3, "ok": True}) == {"tenant": "demo", "count": 3, "ok": True}


@pytest.mark.parametrize(
    "url", ["nats://fixture-token@h", "nats://:fixture-token@h", "nats://user:fixture@token@h", "nats://a@b@c@h"]
)
def test_a_token_in_a_url_goes(url: str) -> None:
    assert logs.redact(url) == "nats://[redacted]@h"


@pytest.mark.parametrize("name", ["x-api-key", "api_key", "Authorization", "token", "client_secret"])
def test_what_a_field_is_called_is_enough(name: str) -> None:
    assert logs.redact({name: "0123456789abcdef"}) == {name: "[redacted]"}


@pytest.mark.parametrize("canary", [KEY, TOKEN])
def test_our_own_need_nothing_before_them(canary: str) -> None:
    assert canary not in logs.redact(f"GET /?q=Bearer%20{canary}")


def test_nesting_is_bounded() -> None:
    nested: list[object] = []
    for _ in range(100):
        nested = [nested]
    assert "[redacted]" in json.dumps(logs.redact(nested))


def test_both_ways_of_logging_come_out_redacted(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        logs.configure("test", "DEBUG")
        logs.get("part").debug("seen", key=KEY, error=ValueError(TOKEN))
        logging.getLogger("other").warning("seen %s", PROVIDER)
    finally:
        root.handlers[:], root.level = handlers, level
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()
    lines = capsys.readouterr().err
    assert len([json.loads(line) for line in lines.splitlines()]) == 2
    assert not any(canary in lines for canary in CANARIES)


LOGS = """
import logging
from keyforge.runtime import logs
logs.configure("x", "INFO")
for _ in range(3):
    logs.get("a").error("something", error="x" * 20_000)
    logging.getLogger("b").error("something")
print("went on")
"""


@pytest.mark.parametrize("stderr", ["a full disk", "none", "a pipe without a reader"])
def test_a_line_that_cannot_be_written_ends_nothing(stderr: str) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    redirected = {"a full disk": "2>/dev/full", "none": "2>&-"}.get(stderr, "")
    shell = ["/bin/sh", "-c", f'exec "$0" -c "$1" {redirected}', sys.executable, LOGS]
    try:
        done = subprocess.run(shell, stdout=subprocess.PIPE, stderr=writes, text=True, timeout=120, check=False)
    finally:
        os.close(writes)
    assert done.stdout == "went on\n"
