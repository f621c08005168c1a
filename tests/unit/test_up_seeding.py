"""What the operator reads when `keys` refuses what seeding asks for."""

from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from keyforge.embedded.errors import StackError
from keyforge.embedded.home import Home
from keyforge.embedded.seeding import Seeding
from tests.unit.test_up_plan import SECRETS


async def test_a_refusal_names_the_request_as_it_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = {"error": {"type": "token_invalid", "message": "The token is not valid."}}
    keys = httpx.MockTransport(lambda _: httpx.Response(401, json=body))
    seeding = Seeding(Home(tmp_path), replace(SECRETS, key_secret="0b" * 32), "http://keys", {}, print)
    monkeypatch.setattr(seeding, "_client", httpx.AsyncClient(base_url="http://keys", transport=keys))
    with pytest.raises(StackError) as refused:
        await seeding.run("http://simulator/v1")
    why = "token_invalid: The token is not valid."
    assert str(refused.value) == f"keys refused GET /v1/tenants while the stack was seeded: {why}"
