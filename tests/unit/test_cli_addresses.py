"""An address of a service that cannot be one is refused in a line that does not show its password."""

from pathlib import Path

import pytest

from keyforge.cli.api import connect
from keyforge.cli.errors import UsageError

CANARY = "canary"
"""A password that nobody may see."""


@pytest.mark.parametrize(
    "url",
    [
        "http://a..b",
        f"http://{'a' * 64}",
        "http://127.0.0.1\n:1",
        "http://127.0.0.1:65536",
        f"http://u:{CANARY}/@h",
        f"file://u:{CANARY}/@h",
    ],
)
def test_an_address_that_cannot_be_one_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str
) -> None:
    monkeypatch.setenv("KEYFORGE_HOME", str(tmp_path))
    monkeypatch.setenv("KEYFORGE_ADMIN_TOKEN", "fixture")
    with pytest.raises(UsageError, match="URL: ") as refused:
        connect("keys", url)
    assert CANARY not in str(refused.value)
