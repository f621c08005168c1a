"""Models as agents see them: what is listed and shown is what the key can call, whatever providers call it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import httpx
import openai
import pytest
import pytest_asyncio
from openai import OpenAI

from keyforge.contracts import subjects
from keyforge.contracts.directory import ProviderEntry
from keyforge.contracts.events import RequestAdmitted, RequestCompleted
from keyforge.contracts.ids import CredentialId, ProviderId
from tests.integration.edge_facts import MODEL
from tests.integration.edge_stack import EdgeStack
from tests.integration.edge_wire import Connection, body, request
from tests.integration.model_names import NAMES

pytestmark = pytest.mark.asyncio(loop_scope="module")

CALLABLE = sorted([f"sim/{MODEL}", *(f"names/{name}" for name in NAMES), "other/twice", "names/twice"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EdgeStack]:
    async with EdgeStack(tmp_path_factory.mktemp("edge")) as running:
        await running.provider(ProviderId("bare"), ["no-credential"])
        await running.provider(ProviderId("lost"), ["no-address"], url="ftp://localhost")
        await running.credential(ProviderId("lost"), CredentialId("lost"), "fixture-lost", url="ftp://localhost")
        await running.provider(ProviderId("mute"), ["no-dialect"])
        entry = ProviderEntry(
            provider=ProviderId("mute"), kind="x", base_url=running.sim_url, allow_insecure=True, revision=2,
            dialects=("morse",),
        )  # fmt: skip
        await running.put(subjects.PROVIDERS_BUCKET, "mute", entry)
        await running.credential(ProviderId("mute"), CredentialId("mute"), "fixture-mute")
        for provider, models in (("other", ["twice"]), ("names", [*NAMES, "twice"])):
            await running.credential(ProviderId(provider), CredentialId(provider), f"fixture-{provider}")
            await running.provider(ProviderId(provider), models)
        await running.knows(NAMES[0])
        yield running


async def listed(stack: EdgeStack, headers: dict[str, str], prefix: str = "/v1") -> list[str]:
    answer = await stack.edge.get(f"{prefix}/models", headers=headers)
    assert answer.status_code == 200, answer.text
    return [model["id"] for model in answer.json()["data"]]


@pytest.mark.parametrize("prefix", ["/v1", "/api/v1"])
async def test_only_what_can_be_called_is_listed(stack: EdgeStack, prefix: str) -> None:
    """Not what has no credential, no address, or no dialect that this version speaks."""
    every = await stack.key()
    found = [name for name in await listed(stack, stack.auth(every), prefix) if not name.startswith("rests-")]
    assert found == CALLABLE
    narrow = await stack.key(models=(NAMES[0], "no-credential", "no-dialect", "no-address", f"sim/{MODEL}"))
    assert await listed(stack, stack.auth(narrow), prefix) == [f"names/{NAMES[0]}", f"sim/{MODEL}"]


@pytest.mark.parametrize(("status", "type_"), [(429, "upstream_rate_limited"), (401, "upstream_auth")])
async def test_a_credential_that_rests_counts(stack: EdgeStack, status: int, type_: str) -> None:
    key, name = await stack.key(), f"rests-{status}"
    await stack.credential(ProviderId(name), CredentialId(name), f"fixture-{name}")
    await stack.provider(ProviderId(name), [name])
    await stack.knows(name)
    await stack.script(model=name, times=1, behaviour={"status": status})
    assert (await stack.chat(key, model=name)).json()["error"]["type"] == type_
    assert f"{name}/{name}" in await listed(stack, stack.auth(key))
    assert (await stack.edge.get(f"/v1/models/{name}/{name}", headers=stack.auth(key))).status_code == 200


@pytest.mark.parametrize("name", NAMES)
async def test_a_model_is_shown_and_called_by_the_name_that_its_provider_gives_it(stack: EdgeStack, name: str) -> None:
    key, full = await stack.key(), f"names/{name}"
    expected = {"id": full, "object": "model", "created": 0, "owned_by": "names"}
    for prefix in ("/v1", "/api/v1"):
        for path in (quote(full, safe="/"), quote(full, safe=""), quote(name, safe="")):
            async with Connection(stack) as connection:
                for method in ("GET", "HEAD"):
                    head = f"{method} {prefix}/models/{path} HTTP/1.1\r\nHost: x\r\nx-api-key: {key.text}\r\n\r\n"
                    connection.writer.write(head.encode())
                    if method == "GET":
                        status, _, answer = await connection.answer()
                        assert httpx.Response(status, content=answer).json() == expected
                    else:
                        status, headers = await connection.head()
                        assert int(headers["content-length"]) == len(answer)
                    assert status == 200
    for target in ("/v1/chat/completions", "/v1/chat/completions?way=long"):
        async with Connection(stack) as connection:
            connection.writer.write(request(key, body(model=full), target=target))
            status, headers, answer = await connection.answer()
        assert status == 200, answer
        assert isinstance(await stack.ending(headers["x-request-id"]), RequestCompleted)
        (admitted,) = [e for e in await stack.events(headers["x-request-id"]) if isinstance(e, RequestAdmitted)]
        assert (admitted.provider, admitted.model) == ("names", name)


UNKNOWN: list[Any] = [
    pytest.param("nothing", None, id="unknown"),
    pytest.param("names/nothing", None, id="no price"),
    pytest.param(f"sim/{MODEL}", ("twice",), id="not the key's"),
    pytest.param("bare/no-credential", None, id="no credential"),
    pytest.param("no-credential", None, id="no credential, bare name"),
    pytest.param("lost/no-address", None, id="no address"),
    pytest.param("mute/no-dialect", None, id="no dialect"),
    pytest.param("names/%ff%00", None, id="no text"),
    pytest.param("x" * 5_000, None, id="too long"),
]


@pytest.mark.parametrize(("name", "models"), UNKNOWN)
async def test_a_model_that_the_key_cannot_call_is_unknown(
    stack: EdgeStack, name: str, models: tuple[str, ...] | None
) -> None:
    key = await stack.key(models=models)
    for prefix in ("/v1", "/api/v1"):
        answer = await stack.edge.get(f"{prefix}/models/{name}", headers=stack.auth(key))
        assert answer.status_code == 404
        error = answer.json()["error"]
        assert (error["type"], error["code"], error["param"]) == ("model_unknown", 404, "model")
        assert answer.headers["x-should-retry"] == "false"


async def test_other_answers_about_a_model(stack: EdgeStack) -> None:
    key = await stack.key()
    answer = await stack.edge.get("/v1/models/twice", headers=stack.auth(key))
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "model_ambiguous")
    assert (await stack.edge.get("/v1/models/names/twice")).json()["error"]["type"] == "key_missing"
    for method in ("POST", "DELETE", "PUT"):
        refused = await stack.edge.request(method, "/v1/models/names/twice", headers=stack.auth(key))
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
    await stack.revoke(key)
    revoked = await stack.until(
        lambda: stack.edge.get("/v1/models/names/twice", headers=stack.auth(key)),
        lambda answer: answer.status_code != 200,
    )
    assert revoked.json()["error"]["type"] == "key_revoked"


@pytest.mark.parametrize("prefix", ["/v1", "/api/v1"])
async def test_the_official_client_lists_and_retrieves_them(stack: EdgeStack, prefix: str) -> None:
    key = await stack.key()

    def ask() -> None:
        with OpenAI(base_url=f"http://127.0.0.1:{stack.edge_port}{prefix}", api_key=key.text, max_retries=0) as client:
            found = list(client.models.list())
            assert set(CALLABLE) <= {model.id for model in found}
            for model in found:
                assert client.models.retrieve(model.id) == model
                raw = client.models.with_raw_response.retrieve(model.id)
                assert raw.parse() == model
            with pytest.raises(openai.NotFoundError) as wrong:
                client.models.retrieve("names/nothing")
            assert (wrong.value.type, wrong.value.param) == ("model_unknown", "model")

    await asyncio.to_thread(ask)
