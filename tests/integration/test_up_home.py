"""The home of the embedded stack on a real disk: private, locked, whole or not at all, and honest about loss."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from keyforge.contracts import keyformat, members
from keyforge.contracts.keyformat import KeySecrets
from keyforge.embedded import nats_config, secrets, services
from keyforge.embedded.errors import StackError
from keyforge.embedded.home import Home, read_ready
from keyforge.embedded.ports import PortPlan

HOLDER = """
import sys
from pathlib import Path
from keyforge.embedded.home import Home
with Home(Path(sys.argv[1])).locked():
    print("held", flush=True)
    input()
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.prepare()
    return made


def test_secrets_are_made_once_and_are_private(home: Home) -> None:
    first = secrets.load(home)
    again = secrets.load(home)
    assert first == again
    assert stat.S_IMODE(home.secrets.stat().st_mode) == 0o700
    files = list(home.secrets.iterdir())
    assert len(files) == 7 + len(first.nats_passwords)
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    root = KeySecrets.derive(bytes.fromhex(first.key_secret))
    assert keyformat.parse_id("kfa", first.admin_token, root) is not None
    assert len({first.key_secret, first.commitment_secret, first.audit_master_key, *first.nats_passwords.values()}) == 9


def test_a_lost_secret_beside_a_log_is_never_replaced(home: Home) -> None:
    secrets.load(home)
    (home.nats / "jetstream").mkdir()
    (home.secrets / "key_secret").unlink()
    with pytest.raises(StackError, match="key_secret is missing but the log exists"):
        secrets.load(home)
    assert not (home.secrets / "key_secret").exists()


def test_an_empty_secret_is_an_error_not_a_secret(home: Home) -> None:
    secrets.load(home)
    (home.secrets / "key_secret").write_text("")
    with pytest.raises(StackError, match="is empty"):
        secrets.load(home)


def test_folders_that_others_may_read_are_closed(home: Home) -> None:
    home.secrets.chmod(0o755)
    home.prepare()
    assert stat.S_IMODE(home.secrets.stat().st_mode) == 0o700


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_home_that_is_a_file_is_one_clear_line(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StackError, match=r"cannot use the home .*KEYFORGE_HOME"):
        Home(tmp_path / "file" / below).prepare()


def test_a_second_supervisor_is_refused_with_the_first_ones_process(home: Home) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(home.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(StackError, match=rf"another `keyforge up` runs on .* \(process {other.pid}\)"),
            home.locked(),
        ):
            pass
        other.kill()
        other.wait()
        with home.locked():
            pass


def test_ready_is_replaced_as_a_whole_and_taken_back(home: Home) -> None:
    assert read_ready(home.ready) is None
    home.write_ready({"edge": "http://x"})
    assert stat.S_IMODE(home.ready.stat().st_mode) == 0o600
    home.write_ready({"edge": "http://y"})
    assert read_ready(home.ready) == {"edge": "http://y"}
    home.remove_ready()
    assert read_ready(home.ready) is None
    assert sorted(path.name for path in home.path.iterdir()) == ["clickhouse", "logs", "nats", "secrets"]


@pytest.mark.parametrize("name", ["h\u00fc", "\u65e5\u672c", "\x01\x7f", "a\\b\n", os.fsdecode(b"\xff")], ids=repr)
def test_the_server_reads_a_store_path_of_any_bytes(tmp_path: Path, name: str) -> None:
    passwords = dict.fromkeys(members.USERS, "fixture")
    file = tmp_path / "nats.conf"
    file.write_text(nats_config.embedded(PortPlan(8080), tmp_path / name, passwords, 1), "utf-8")
    command = (services.nats_server(os.environ), "--config", str(file), "-t")
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
