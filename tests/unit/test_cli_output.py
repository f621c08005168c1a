"""What the command line does where its output cannot be written, and how it fails for programs: with --json, in one
object."""

import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from keyforge.cli.errors import FailedError
from keyforge.cli.failures import TYPES, run, wants_json
from keyforge.contracts.errors import problem
from keyforge.embedded.errors import EmbeddedError, SettingError, StackEndedError, StackError, WrongLogError

CANNOT: Final = "standard output cannot be written: "
ID: Final = "fixture-id"
SHOWN_ONCE: Final = "fixture-shown-once"
WITHIN_S: Final = 120


@pytest.fixture(scope="module")
def service() -> Iterator[tuple[str, list[str]]]:
    """What answers as keys does to what is created, and the paths that it was asked for."""
    asked: list[str] = []

    class Keys(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            self.rfile.read(int(self.headers["content-length"]))
            if "/lost/" in self.path:  # it was done, and the answer does not arrive
                self.close_connection = True
                return
            self._answer(201, json.dumps({"id": ID, **dict.fromkeys(("key", "token"), SHOWN_ONCE)}).encode())

        def do_GET(self) -> None:
            wrong = problem("not_found", "Not found.")
            self._answer(wrong.kind.status, wrong.body())

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Keys)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def keyforge(tmp_path: Path, line: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run a line of a shell in which $KF is the command line."""
    environment = {
        "PATH": "/usr/bin:/bin",
        "KF": f"{sys.executable} -m keyforge.cli",
        "KEYFORGE_HOME": str(tmp_path),
        "KEYFORGE_PORT_BASE": "1",
        "KEYFORGE_ADMIN_TOKEN": "fixture-token",
    }
    command = ("/bin/sh", "-c", line)
    return subprocess.run(
        command, env=environment, input=stdin, capture_output=True, text=True, timeout=WITHIN_S, check=False
    )


@pytest.mark.parametrize("command", ["version --json", "--help", "doctor"])
def test_a_full_disk_is_one_line_and_an_exit_code(tmp_path: Path, command: str) -> None:
    done = keyforge(tmp_path, f"$KF {command} > /dev/full")
    text = f"{CANNOT}No space left on device"
    said = json.dumps({"type": "output_failed", "message": text}) if "--json" in command else f"keyforge: {text}"
    assert (done.returncode, done.stderr) == (1, f"{said}\n")


def test_a_closed_output_is_one_line_and_an_exit_code(tmp_path: Path) -> None:
    done = keyforge(tmp_path, "$KF doctor <&- >&-")
    assert (done.returncode, done.stderr) == (1, f"keyforge: {CANNOT}it is closed\n")


def test_a_closed_pipe_is_one_line_and_an_exit_code(tmp_path: Path) -> None:
    done = keyforge(tmp_path, "{ $KF doctor; echo $? >&2; } | true")
    assert done.stderr == f"keyforge: {CANNOT}Broken pipe\n1\n"


def test_a_lost_message_does_not_change_the_exit_code(tmp_path: Path) -> None:
    assert keyforge(tmp_path, "$KF tenant show .. 2> /dev/full").returncode == 2


def test_an_input_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    done = keyforge(tmp_path, f"$KF credential add sim 0> {tmp_path}/written")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("keyforge: no secret: standard input cannot be read")


CREATE: Final = {
    "key create demo x": "key revoke demo",
    "operator create": "operator revoke",
    "credential add sim": "credential revoke sim",
}
"""What is created and its result shown once, and the command that ends it."""


@pytest.mark.parametrize(
    ("command", "output"), [*((command, "> /dev/full") for command in CREATE), ("key create demo x --json", "| true")]
)
def test_what_was_created_and_not_shown_is_named_by_its_id(
    tmp_path: Path, service: tuple[str, list[str]], command: str, output: str
) -> None:
    done = keyforge(tmp_path, f"{{ $KF {command} --url {service[0]}; echo $? >&2; }} {output}", stdin="fixture-secret")
    ends = CREATE[command.removesuffix(" --json")]
    line, code = done.stderr.splitlines()
    assert (code, SHOWN_ONCE in line) == ("1", False)
    assert CANNOT in line
    assert f"{ID} was created and not shown: end it with `keyforge {ends} {ID}`" in line


def test_nothing_is_created_that_cannot_be_shown(tmp_path: Path, service: tuple[str, list[str]]) -> None:
    url, asked = service
    asked.clear()
    done = keyforge(tmp_path, f"$KF key create demo x --json --url {url} >&-")
    assert (done.returncode, asked) == (1, [])
    assert json.loads(done.stderr) == {"type": "output_failed", "message": f"{CANNOT}it is closed"}


@pytest.mark.parametrize(
    ("line", "code", "error"),
    [
        ("tenant show x --json --url URL", 1, {"type": "not_found", "message": "Not found.", "status": 404}),
        ("tenant show x --json --url http://127.0.0.1:1", 3, {"type": "unreachable"}),
        ("tenant shw --json", 2, {"type": "usage"}),
        ("$(printf 'tenant show \\377') --json --url URL", 2, {"type": "usage"}),
    ],
)
def test_with_json_an_error_is_one_object(
    tmp_path: Path, service: tuple[str, list[str]], line: str, code: int, error: dict[str, Any]
) -> None:
    done = keyforge(tmp_path, f"$KF {line.replace('URL', service[0])}")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1), done.stderr
    found = json.loads(done.stderr)
    assert error.items() <= found.items()
    assert set(found) == {"type", "message"} | ({"status"} if "status" in error else set())
    assert found["message"]


def test_what_may_have_been_created_though_no_answer_came_is_said(
    tmp_path: Path, service: tuple[str, list[str]]
) -> None:
    """A program that tried again, as after `unreachable`, would make a second key."""
    done = keyforge(tmp_path, f"$KF key create lost agent --json --url {service[0]}")
    found = json.loads(done.stderr)
    assert (done.returncode, done.stdout, found["type"]) == (1, "", "answer_lost")
    assert "key may have been created and was not shown" in found["message"]
    assert "`keyforge key revoke lost`" in found["message"]


def test_with_json_an_error_shows_no_password_either(tmp_path: Path) -> None:
    done = keyforge(tmp_path, "$KF tenant create x --limit http://u:fixture@h --json")
    assert "fixture" not in done.stderr
    assert json.loads(done.stderr)["type"] == "usage"


@pytest.mark.parametrize(
    ("error", "type_", "code"),
    [
        (FailedError("why"), "failed", 1),
        (StackError("why"), "cannot_start", 2),
        (SettingError("why"), "setting_invalid", 2),
        (WrongLogError("why"), "wrong_log", 2),
        (StackEndedError("why"), "stack_ended", 1),
    ],
)
def test_each_error_has_a_type_and_its_exit_code(
    capsys: pytest.CaptureFixture[str], error: Exception, type_: str, code: int
) -> None:
    def command(*, standalone_mode: bool) -> None:
        assert not standalone_mode, "the library would write to stderr itself"
        raise error

    assert run(command, as_json=True) == code
    assert json.loads(capsys.readouterr().err) == {"type": type_, "message": "why"}
    assert TYPES[-1][0] is EmbeddedError


def test_json_is_wanted_where_it_is_an_option() -> None:
    assert wants_json(["tenant", "list", "--json"])
    assert not wants_json(["tenant", "list"])
    assert not wants_json(["key", "create", "demo", "--", "--json"])
