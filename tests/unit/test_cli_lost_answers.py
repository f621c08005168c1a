"""A change that was sent, and an answer that does not say whether it was made: a program must not just repeat it."""

import http.server
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from keyforge.cli.app import app
from keyforge.cli.failures import run
from keyforge.contracts.errors import problem

MAY: Final = "the change may have been made"
HTML: Final = b"<html>"
ISSUED: Final = {"id": "fixture-id", "key": "fixture-shown-once"}
CHANGES: Final = (
    "tenant create acme",
    "key create acme agent",
    "key revoke acme Key000000001",
    "provider add sim http://127.0.0.1:1",
    "credential add sim",
    "credential revoke sim one",
    "price set sim small --input 1 --output 1",
    "operator create",
    "operator revoke one",
    "rebuild",
    "rebuild --drop before_1",
)
"""Every command that changes something over an API: by POST, PUT and DELETE."""
LOST: Final = {
    "HTML": (201, HTML),
    "an empty body": (201, b""),
    "no body": (204, b""),
    "a list": (200, b"[]"),
    "a text": (200, b'"id"'),
    "half of it": (201, json.dumps(ISSUED).encode()[:-3]),
    "another object": (201, b'{"a": 1}'),
    "a field of another type": (201, b'{"id": 1, "key": "x", "status": 1, "provider": [], "state": 1, "kept": 1}'),
    "an empty id": (201, b'{"id": "", "key": "", "token": ""}'),
    "a gateway's 502": (502, HTML),
    "a gateway's 504": (504, b""),
    "a gateway's 502 in JSON": (502, b'{"error": {"type": "bad_gateway", "message": "The backend did not answer."}}'),
    "a 503 of no service of ours": (503, b"upstream connect error or disconnect/reset before headers"),
    "a 500 of no service of ours": (500, b"Internal Server Error"),
}
"""Status and body of answers after which nobody knows whether the change was made."""


class Answering(http.server.ThreadingHTTPServer):
    """Answers every request with what is set, and keeps the methods that it was asked with."""

    status = 200
    body = b""

    def __init__(self) -> None:
        self.methods: list[str] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Answering

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.methods.append(self.command)
        self.send_response(self.server.status)
        if self.server.status != 204:
            self.send_header("content-length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815  # names of the standard library

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def service() -> Iterator[Answering]:
    server = Answering()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def ended(
    service: Answering, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Any:
    """Run a command against what answers so; return its exit code, its output and its error."""
    monkeypatch.setenv("KEYFORGE_HOME", str(tmp_path))
    monkeypatch.setenv("KEYFORGE_ADMIN_TOKEN", "fixture-token")
    monkeypatch.setenv("KEYFORGE_CREDENTIAL_SECRET", "fixture-secret")

    def command(line: str, status: int, body: bytes) -> tuple[int, str, dict[str, Any]]:
        service.status, service.body = status, body
        service.methods.clear()
        monkeypatch.setattr(sys, "argv", ["keyforge", *line.split(), "--json", "--url", service.url])
        code = run(app, as_json=True)
        said = capsys.readouterr()
        return code, said.out, json.loads(said.err) if said.err else {}

    return command


@pytest.mark.parametrize("answer", LOST)
def test_a_change_whose_answer_cannot_be_read_may_have_been_made(service: Answering, ended: Any, answer: str) -> None:
    for line in CHANGES:
        code, out, error = ended(line, *LOST[answer])
        assert (code, out, error["type"], set(error)) == (1, "", "answer_lost", {"type", "message"}), line
        assert MAY in error["message"], line
        assert f"at {service.url} was asked, and the answer, {LOST[answer][0]}, is not one of " in error["message"]
        assert len(service.methods) == 1, "it was sent again"
        assert service.methods != ["GET"]


def test_what_would_have_been_shown_once_is_named_with_its_end(ended: Any) -> None:
    for status, body in LOST.values():
        _, _, error = ended("key create acme agent", status, body)
        assert "key may have been created and was not shown" in error["message"]
        assert "`keyforge key revoke acme`" in error["message"]


def test_a_key_without_its_text_was_not_shown(ended: Any) -> None:
    """It exists, and nobody can use it: as a success it would be given to an agent."""
    code, out, error = ended("key create acme agent", 201, b'{"id": "fixture-id"}')
    assert (code, out, error["type"]) == (1, "", "answer_lost")
    assert "it lacks `key`" in error["message"]


def test_an_answer_that_says_whether_the_change_was_made_is_shown_as_it_is(ended: Any) -> None:
    code, out, error = ended("key create acme agent", 201, json.dumps(ISSUED).encode())
    assert (code, json.loads(out), error) == (0, ISSUED, {})
    for type_ in ("not_found", "log_unavailable", "internal"):
        wrong = problem(type_)
        code, _, error = ended("key create acme agent", wrong.kind.status, wrong.body())
        assert (code, error["type"], error["status"]) == (1, type_, wrong.kind.status)
    code, _, error = ended("key create acme agent", 413, HTML)  # refused before it reached a service
    assert (code, error["type"], error["status"]) == (1, "http_413", 413)


def test_control_characters_of_an_error_are_shown_not_obeyed(
    service: Answering, monkeypatch: pytest.MonkeyPatch, ended: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = problem("not_found", "Not\x1b[2J\nfound.")
    code, _, error = ended("tenant show acme", wrong.kind.status, wrong.body())
    assert (code, error["message"]) == (1, "Not\x1b[2J\nfound.")
    monkeypatch.setattr(sys, "argv", ["keyforge", "tenant", "show", "acme", "--url", service.url])
    assert run(app, as_json=False) == 1
    assert capsys.readouterr().err == "keyforge: not_found: Not\\x1b[2J\\nfound.\n"


@pytest.mark.parametrize(
    ("status", "body", "code", "type_"),
    [
        (200, HTML, 3, "unreachable"),
        (200, b"[]", 3, "unreachable"),
        (204, b"", 3, "unreachable"),
        (502, HTML, 1, "http_502"),
    ],
)
def test_a_read_changes_nothing_and_says_what_answered(
    ended: Any, status: int, body: bytes, code: int, type_: str
) -> None:
    found, _, error = ended("tenant show acme", status, body)
    assert (found, error["type"]) == (code, type_)
    assert MAY not in error["message"]
