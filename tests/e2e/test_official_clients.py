"""The official `openai` client against the edge: what an agent's code does when only its base URL changes."""

from collections.abc import Callable, Iterator

import openai
import pytest
from openai import DefaultHttpxClient, OpenAI
from openai.types.chat import (
    ChatCompletionMessageFunctionToolCall,
    ChatCompletionMessageParam,
    ChatCompletionToolParam,
)

from keyforge.testkit.gateway import Gateway, Issued
from keyforge.testkit.nats_server import wait_until

TOOL: ChatCompletionToolParam = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


@pytest.fixture
def key(gateway: Gateway, new_tenant: Callable[[Gateway], str]) -> Issued:
    return gateway.key(new_tenant(gateway), [{"unit": "usd", "window": "month", "cap": "5"}])


@pytest.fixture(params=["/v1", "/api/v1"])
def client(request: pytest.FixtureRequest, gateway: Gateway, key: Issued) -> Iterator[OpenAI]:
    with OpenAI(base_url=gateway.stack.url("edge") + request.param, api_key=key.text, timeout=30) as client:
        yield client


def test_a_completion(client: OpenAI, gateway: Gateway, key: Issued) -> None:
    done = client.chat.completions.create(model="sim/sim-small", messages=[{"role": "user", "content": "hello"}])
    assert done.choices[0].message.content
    assert done.usage is not None
    assert done.usage.total_tokens > 0
    assert done._request_id
    (limit,) = gateway.wait_settled(key)
    cost = done.usage.prompt_tokens * 150 + done.usage.completion_tokens * 600
    assert round(float(limit["settled"]) * 10**9) == cost


def test_a_stream_without_usage_gets_none_and_is_settled_exactly(client: OpenAI, gateway: Gateway, key: Issued) -> None:
    chunks = list(
        client.chat.completions.create(
            model="sim/sim-small", messages=[{"role": "user", "content": "hello"}], max_tokens=50, stream=True
        )
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert all(chunk.usage is None for chunk in chunks)
    assert all(chunk.choices for chunk in chunks)
    (limit,) = gateway.wait_settled(key)
    entry = gateway.billed("sim-small")[-1]
    cost = entry["prompt_tokens"] * 150 + entry["completion_tokens"] * 600
    assert round(float(limit["settled"]) * 10**9) == cost


def test_a_stream_that_asked_for_usage_gets_it(client: OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="sim/sim-small",
            messages=[{"role": "user", "content": "hello"}],
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert chunks[-1].usage is not None
    assert chunks[-1].choices == []


def test_every_documented_field_is_taken(client: OpenAI) -> None:
    messages: list[ChatCompletionMessageParam] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "hello"}], "name": "agent"},
    ]
    done = client.chat.completions.create(
        model="sim/sim-small",
        messages=messages,
        tools=[TOOL],
        tool_choice="auto",
        parallel_tool_calls=False,
        response_format={"type": "json_object"},
        seed=7,
        logprobs=True,
        top_logprobs=2,
        stop=["\n\n"],
        reasoning_effort="low",
        user="agent-7",
        metadata={"run": "42"},
        n=1,
        temperature=0.2,
        top_p=0.9,
        presence_penalty=0.1,
        frequency_penalty=0.1,
        logit_bias={"50256": -100},
        max_completion_tokens=64,
        store=False,
    )
    assert done.choices


def test_embeddings_and_models(client: OpenAI, gateway: Gateway, key: Issued) -> None:
    made = client.embeddings.create(model="sim/sim-embedding", input=["one", "two"], encoding_format="float")
    assert len(made.data) == 2
    names = [model.id for model in client.models.list()]
    assert any(name.endswith("sim-small") for name in names)
    (limit,) = gateway.wait_settled(key)
    assert round(float(limit["settled"]) * 10**9) == made.usage.prompt_tokens * 20


def test_a_tool_is_called_through_the_gateway(client: OpenAI) -> None:
    done = client.chat.completions.create(
        model="sim/sim-small", messages=[{"role": "user", "content": "hello"}], tools=[TOOL], tool_choice="required"
    )
    calls = done.choices[0].message.tool_calls
    assert calls is not None
    (call,) = calls
    assert isinstance(call, ChatCompletionMessageFunctionToolCall)
    assert (call.function.name, call.function.arguments) == ("weather", '{"city":"word"}')


def test_a_fault_is_not_listed_and_is_called_once_it_has_a_price(client: OpenAI, gateway: Gateway) -> None:
    openrouter = "/api/" in str(client.base_url)  # the stack is one for both, so each prices a model of its own
    model, said = (
        ("sim-fault-400-moderation", "management policy") if openrouter else ("sim-fault-400", "Unsupported value")
    )
    assert not {"sim/sim-401", f"sim/{model}"} & {name.id for name in client.models.list()}
    gateway.operator("keys", "PUT", f"/v1/prices/sim/{model}", {"input_per_mtok": "1", "output_per_mtok": "2"})

    def words() -> str:
        try:
            client.chat.completions.create(model=f"sim/{model}", messages=[{"role": "user", "content": "hello"}])
        except openai.APIStatusError as error:
            return error.message
        return ""

    wait_until(lambda: said in words(), "the provider's own words", timeout_s=30)


def test_a_money_refusal_is_not_retried(gateway: Gateway, new_tenant: Callable[[Gateway], str]) -> None:
    poor = gateway.key(new_tenant(gateway), [{"unit": "usd", "window": "day", "cap": "0.000001"}])
    asked = 0

    def count(_request: object) -> None:
        nonlocal asked
        asked += 1

    http = DefaultHttpxClient(event_hooks={"request": [count]})
    with OpenAI(base_url=f"{gateway.stack.url('edge')}/v1", api_key=poor.text, http_client=http) as client:
        with pytest.raises(openai.APIStatusError) as refused:
            client.chat.completions.create(model="sim/sim-small", messages=[{"role": "user", "content": "hello"}])
        assert refused.value.status_code == 402
        assert refused.value.type == "budget_exceeded"
    assert asked == 1


def test_a_wrong_key_is_an_authentication_error(gateway: Gateway) -> None:
    with (
        OpenAI(base_url=f"{gateway.stack.url('edge')}/v1", api_key="sk-fixture-not-ours") as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.models.list()
