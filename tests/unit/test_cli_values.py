"""What the command line reads and writes, without anybody to ask: limits, errors, tables, exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from keyforge.cli import show
from keyforge.cli.api import Api, refusal
from keyforge.cli.errors import CliError, FailedError, RefusedError, UnreachableError, UsageError, exit_code
from keyforge.cli.options import key_id, limits
from keyforge.contracts.errors import problem
from keyforge.embedded.errors import EmbeddedError, SettingError, StackEndedError, StackError


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("usd/month=5", {"unit": "usd", "window": "month", "cap": "5"}),
        ("usd/day=0.25", {"unit": "usd", "window": "day", "cap": "0.25"}),
        ("requests/minute=60", {"unit": "requests", "window": "minute", "cap": 60}),
        ("concurrency=4", {"unit": "concurrency", "window": "total", "cap": 4}),
    ],
)
def test_a_limit_is_read(text: str, limit: dict[str, Any]) -> None:
    assert limits([text]) == [limit]
    assert limits(None) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "usd=5",
        "usd/month",
        "usd/fortnight=5",
        "euro/month=5",
        "requests/minute=1.5",
        "tokens/day=-1",
        "=5",
        pytest.param("tokens/day=" + "9" * 5000, id="more digits than an int is read from"),
    ],
)
def test_what_is_no_limit_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a limit"):
        limits([text])


def test_a_key_is_not_taken_for_its_id() -> None:
    assert key_id("GqsjeyMvFUJN") == "GqsjeyMvFUJN"
    with pytest.raises(UsageError, match="give its id"):
        key_id("vk_fixture")


def test_an_error_of_the_catalogue_is_one_line_with_its_type() -> None:
    wrong = problem("request_invalid", "Too long.", param="name")
    error = refusal(wrong.kind.status, wrong.body())
    assert str(error) == "request_invalid: Too long. (name)"
    assert error.exit_code == 1
    named = problem("request_invalid", "`name`: too long.", param="name")
    assert str(refusal(named.kind.status, named.body())) == "request_invalid: `name`: too long."


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error": "no"}', b"null"])
def test_any_other_error_is_named_by_its_status(body: bytes) -> None:
    assert str(refusal(502, body)) == "http_502: the service answered 502"


def test_exit_codes_are_as_documented() -> None:
    errors: dict[CliError | EmbeddedError, int] = {
        FailedError(""): 1,
        RefusedError("", type_="not_found", status=404): 1,
        UsageError(""): 2,
        UnreachableError(""): 3,
        StackError(""): 2,
        SettingError(""): 2,
        StackEndedError(""): 1,
    }
    assert [exit_code(error) for error in errors] == list(errors.values())


def test_a_table_that_is_piped_is_whole_and_without_colours(capsys: pytest.CaptureFixture[str]) -> None:
    show.table([{"name": "x" * 300, "limits": [{"unit": "usd", "window": "day", "cap": "3"}], "none": None}],
               ("name", "limits", "none", "absent"))  # fmt: skip
    out = capsys.readouterr().out
    assert out.splitlines()[0].split() == ["name", "limits", "none"]
    assert out.splitlines()[1].split() == ["x" * 300, "usd/day=3"]
    assert "\x1b" not in out


def test_markup_in_a_name_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    show.table([{"name": "[red]x[/red]"}], ("name",))
    assert "[red]x[/red]" in capsys.readouterr().out


@pytest.mark.parametrize("value", [{"name": "a\x1b[2J\nb\x9b"}, {"a\x1b[2J\nb\x9b": [{"x": 1}]}])
def test_control_characters_of_a_service_are_shown_not_obeyed(
    capsys: pytest.CaptureFixture[str], value: dict[str, Any]
) -> None:
    show.fields(value)
    show.table([{"name": value}], ("name",))
    out = capsys.readouterr().out
    assert out.count(r"a\x1b[2J\nb\x9b") == 2
    assert out.replace("\n", "").isprintable()


def test_json_that_is_piped_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    show.as_json({"a": [1, 2]})
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert json.loads(out) == {"a": [1, 2]}


CLOSED = "http://127.0.0.1:1"
TOKEN = {"KEYFORGE_ADMIN_TOKEN": "fixture"}
CANARY = "canary"
"""A password that nobody may see."""
VERSION = """
import sys
from keyforge.cli.main import main
sys.argv = ["keyforge", "version", "--json"]
try:
    main()
finally:
    heavy = {"httpx", "nats", "fastapi", "rich.table"} & set(sys.modules)
    assert not heavy, heavy
"""


def keyforge(tmp_path: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    bare = {"PATH": "/usr/bin:/bin", "KEYFORGE_HOME": str(tmp_path / "home")}
    return subprocess.run(
        [sys.executable, "-m", "keyforge.cli", *arguments],
        env={**bare, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "said"),
    [
        (["tenant", "list"], {}, 3, "keyforge: no stack is ready on"),
        (["tenant", "list", "--url", "http://127.0.0.1:1"], {}, 2, "keyforge: KEYFORGE_ADMIN_TOKEN is not set"),
        (
            ["tenant", "list", "--url", CLOSED],
            TOKEN,
            3,
            "keyforge: keys at http://127.0.0.1:1 does not answer",
        ),
        (["tenant", "list", "--url", "file:///etc"], TOKEN, 2, "not an http(s) URL"),
        (["tenant", "list", "--url", "http://[::1"], TOKEN, 2, "not an http(s) URL"),
        (["tenant", "list", "--url", "http://127.0.0.1:x"], TOKEN, 2, "not a URL"),
        (["tenant", "list", "--url", os.fsdecode(b"http://\xff")], TOKEN, 2, "not a URL"),
        (
            ["tenant", "list", "--url", f"http://u:{CANARY}@{CANARY}@127.0.0.1:1"],
            TOKEN,
            3,
            "at http://127.0.0.1:1 does",
        ),
        (["tenant", "create", "x", "--limit", f"http://u:{CANARY}@{CANARY}@h"], {}, 2, "'http://[redacted]@h'"),
        (
            ["tenant", "list", "--url", CLOSED],
            {"KEYFORGE_ADMIN_TOKEN": "k\u00fc"},
            2,
            "is not a token",
        ),
        (
            ["tenant", "list", "--url", CLOSED],
            {"KEYFORGE_ADMIN_TOKEN": "fixture\r"},
            3,
            "does not answer (ConnectError)",
        ),
        (["tenant", "show", os.fsdecode(b"\xff"), "--url", CLOSED], TOKEN, 2, "keyforge: an argument or a variable"),
        (["tenant", "show", "..", "--url", CLOSED], TOKEN, 2, "keyforge: not an id: '..'"),
        (["records", "", "x", "--url", CLOSED], TOKEN, 2, "keyforge: not an id: ''"),
        (["credential", "add", "x", "--url", CLOSED], TOKEN, 2, "keyforge: no secret"),
        (["tenant", "create", "x", "--limit", "usd=5"], {}, 2, "keyforge: not a limit"),
        (["key", "revoke", "demo", "vk_fixture"], {}, 2, "keyforge: this is a key"),
        (["operator", "revoke", "kfa_fixture"], {}, 2, "keyforge: this is a token"),
        (["no-such-command"], {}, 2, "No such command"),
        (["up"], {"KEYFORGE_PORT_BASE": "x"}, 2, "keyforge: KEYFORGE_PORT_BASE must be a number"),
        (["up"], {"KEYFORGE_PORT_BASE": "9" * 5000}, 2, "keyforge: KEYFORGE_PORT_BASE must be a number"),
        (["up"], {"KEYFORGE_PARTITIONS": "9" * 5000}, 2, "keyforge: KEYFORGE_PARTITIONS must be a number"),
        (["up"], {"KEYFORGE_HOME": "/tmp/a?b"}, 2, "must not contain a question mark"),
        (["up"], {"KEYFORGE_PARTITIONS": "33"}, 2, "keyforge: KEYFORGE_PARTITIONS must be a number from 1 to 32"),
        (["up"], {"KEYFORGE_PARTITIONS": "0"}, 2, "keyforge: KEYFORGE_PARTITIONS must be a number"),
        (["up"], {"KEYFORGE_NATS_SERVER": "/nowhere"}, 2, "keyforge: nats-server is missing"),
        (["up"], {"KEYFORGE_HOME": "/dev/null/home"}, 2, "keyforge: cannot use the home /dev/null/home"),
        (["declare"], {"KEYFORGE_REPLICAS": "x"}, 2, "keyforge: KEYFORGE_REPLICAS must be a number"),
        (
            ["tenant", "list", "--url", CLOSED],
            {"KEYFORGE_ADMIN_TOKEN": ""},
            2,
            "KEYFORGE_ADMIN_TOKEN must not be empty",
        ),
        (
            ["credential", "add", "x", "--url", CLOSED],
            {**TOKEN, "KEYFORGE_CREDENTIAL_SECRET": " "},
            2,
            "keyforge: KEYFORGE_CREDENTIAL_SECRET must not be empty",
        ),
        (
            ["version"],
            {"KEYFORGE_HOEM": "/x"},
            2,
            "keyforge: KEYFORGE_HOEM: no setting has this name, the nearest is KEYFO",
        ),
        (["doctor"], {"KEYFORGE_PORTBASE": "1"}, 2, "the nearest is KEYFORGE_PORT_BASE"),
        (["tenant", "list"], {"KEYFORGE_KEY_URL": CLOSED}, 2, "the nearest is KEYFORGE_KEYS_URL"),
        (["tenant", "list"], {"keyforge_admin_tokn": "x", "KEYFORGE_PORT_8080_TCP": "x"}, 3, "no stack is ready on"),
        (["up"], {"OPENAI_API_KEY": "fixture one"}, 2, "keyforge: OPENAI_API_KEY must be at most 4096 printable ASCII"),
    ],
)
def test_what_goes_wrong_is_one_clear_line_and_a_code(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], code: int, said: str
) -> None:
    done = keyforge(tmp_path, *arguments, **environment)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert CANARY not in done.stderr
    if done.stderr.startswith("keyforge:"):
        assert done.stderr.count("\n") == 1


def test_doctor_says_what_is_wrong_with_a_home_that_it_may_not_look_at(tmp_path: Path) -> None:
    done = keyforge(tmp_path, "doctor", "--json", KEYFORGE_HOME="/" + "x" * 300)
    assert done.returncode == 1, done.stderr
    home = json.loads(done.stdout)["checks"][0]
    assert (home["ok"], "File name too long" in home["detail"]) == (False, True)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_json_holds_any_name_in_any_encoding(encoding: str) -> None:
    command = (sys.executable, "-c", "from keyforge.cli import show; show.as_json({'name': '\\u65e5 \\u00fc'})")
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(command, env=environment, capture_output=True, timeout=120, check=True)
    assert json.loads(done.stdout.decode(encoding)) == {"name": "\u65e5 \u00fc"}


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"null", b"\xff", b"[" * 300_000])
def test_what_answers_and_is_no_service_of_ours_is_named(body: bytes) -> None:
    asked = Api("keys", CLOSED, "fixture")
    asked._client = httpx.Client(
        base_url=CLOSED, transport=httpx.MockTransport(lambda _: httpx.Response(200, content=body))
    )
    with asked, pytest.raises(UnreachableError, match="is not keys"):
        asked.get("/v1/tenants")


def test_version_loads_neither_the_client_nor_the_bus(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", VERSION], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["version"]
