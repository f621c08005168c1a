"""The official `openai` client against the edge."""

from collections.abc import AsyncIterator

import openai
import pytest
import pytest_asyncio

from keyforge.contracts.ids import ProviderId
from keyforge.contracts.limits import Limit
from tests.integration.edge_facts import MODEL
from tests.integration.edge_stack import EdgeStack

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EdgeStack]:
    async with EdgeStack(tmp_path_factory.mktemp("edge")) as running:
        await running.provider(ProviderId("sim"), [MODEL, "sim-embedding", "sim-429", "sim-cut-stream"])
        await running.knows("sim-embedding")
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def client(stack: EdgeStack) -> AsyncIterator[openai.AsyncOpenAI]:
    key = await stack.key()
    async with openai.AsyncOpenAI(api_key=key.text, base_url=f"http://127.0.0.1:{stack.edge_port}/v1") as made:
        yield made


async def test_a_chat(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "hello"}], max_completion_tokens=20, temperature=0, seed=1
    )
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer._request_id


async def test_a_stream_without_and_with_usage(client: openai.AsyncOpenAI) -> None:
    chunks = [
        chunk
        async for chunk in await client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "hello"}], stream=True
        )
    ]
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)
    chunks = [
        chunk
        async for chunk in await client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "hello"}],
            stream=True,
            stream_options={"include_usage": True},
        )
    ]
    assert chunks[-1].usage is not None


async def test_a_broken_stream_is_an_error(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.APIError, match="ended early"):
        async for _ in await client.chat.completions.create(
            model="sim-cut-stream", messages=[{"role": "user", "content": "hello"}], stream=True
        ):
            pass


async def test_embeddings_and_models(client: openai.AsyncOpenAI) -> None:
    made = await client.embeddings.create(model="sim-embedding", input=["one", "two"])
    assert len(made.data) == 2
    assert f"sim/{MODEL}" in [model.id async for model in client.models.list()]


async def test_errors_are_of_the_clients_own_kinds_and_are_not_retried(stack: EdgeStack) -> None:
    base_url = f"http://127.0.0.1:{stack.edge_port}/v1"
    poor = await stack.key(limits=(Limit(unit="usd", window="day", cap=1),))
    async with openai.AsyncOpenAI(api_key=poor.text, base_url=base_url) as client:
        with pytest.raises(openai.APIStatusError) as caught:
            await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "x"}])
        assert caught.value.status_code == 402
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(model="nope", messages=[{"role": "user", "content": "x"}])
    async with openai.AsyncOpenAI(api_key="vk_wrong", base_url=base_url) as client:
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()
