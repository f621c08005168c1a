"""The worst case is never below what a provider could bill for what it is sent; the cap it relies on is sent too."""

import base64
import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyforge.contracts.directory import KeyEntry, PriceBook, PriceEntry, ProviderEntry
from keyforge.contracts.errors import Problem
from keyforge.contracts.ids import EdgeId, KeyId, ModelName, PriceId, ProviderId, RequestId, TenantId
from keyforge.contracts.money import NUSD_PER_USD
from keyforge.contracts.reserve import Reserves, encode_reserves
from keyforge.contracts.usage import UnitPrices, Usage
from keyforge.edge.core.dialects.additions import OUTPUT_TOKENS_DEFAULT, Additions
from keyforge.edge.core.dialects.openai_chat import workload
from keyforge.edge.core.dialects.openai_chat.request import COMPLETIONS_MAX, TOKEN_COUNT_MAX
from keyforge.edge.core.dialects.quirks import IMAGE_TOKENS
from keyforge.edge.core.dialects.registry import ROUTES
from keyforge.edge.core.judge import AgentRequest, OutgoingRequest, judge, outgoing_for
from keyforge.edge.core.pricing import worst_case
from keyforge.edge.core.routing.catalogue import Catalogue, Route
from keyforge.edge.core.settlement.commitment import TenantKey

KEY = KeyEntry(
    key_id=KeyId("k"), tenant=TenantId("t"), partition=0, digest="", status="active", models=None,
    max_output_tokens=None, expires_at=None, revision=1,
)  # fmt: skip
PRICES = UnitPrices(
    input_nusd=100, cache_read_nusd=50, cache_write_nusd=125, input_audio_nusd=900, output_nusd=400, reasoning_nusd=500,
    output_audio_nusd=9_000, cache_write_1h_nusd=300, request_nusd=7,
)  # fmt: skip


def route(kind: str = "openai", *, output_max: int | None = None, context: int | None = None) -> Route:
    price = PriceEntry(price_id=PriceId("p"), prices=PRICES, max_output_tokens=output_max, context_tokens=context)
    return Route(ProviderId("one"), ModelName("own-name"), kind, price)


def prepared(body: dict[str, Any], to: Route | None = None, key_max: int | None = None) -> OutgoingRequest | Problem:
    """Return what would be sent."""
    on = ROUTES["/v1/chat/completions" if "messages" in body else "/v1/embeddings"]
    request = on.parse(json.dumps({"model": "m", **body}).encode())
    assert not isinstance(request, Problem), request
    return outgoing_for(on, request, to or route(), msgspec.structs.replace(KEY, max_output_tokens=key_max))


def rendered(body: dict[str, Any], to: Route | None = None, key_max: int | None = None) -> OutgoingRequest:
    outgoing = prepared(body, to, key_max)
    assert isinstance(outgoing, OutgoingRequest), outgoing
    return outgoing


def chat(content: Any = "hello", **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}], **fields}


CAPS: list[Any] = [
    pytest.param({}, {}, None, OUTPUT_TOKENS_DEFAULT, id="the default"),
    pytest.param({"max_tokens": 10}, {}, None, 10, id="the agent's"),
    pytest.param({"max_completion_tokens": 90_000}, {}, None, 90_000, id="the agent's, above the default"),
    pytest.param({"max_tokens": 10, "max_completion_tokens": 20}, {}, None, 10, id="the lower of two"),
    pytest.param({"max_tokens": 100}, {}, 30, 30, id="the key's"),
    pytest.param({"max_tokens": 100}, {"output_max": 40}, None, 40, id="the model's"),
    pytest.param({"max_tokens": 100}, {"context": 50}, None, 50, id="the context window"),
    pytest.param({}, {"output_max": 100}, None, 100, id="the model's, below the default"),
    pytest.param({}, {"output_max": 128_000}, None, OUTPUT_TOKENS_DEFAULT, id="the default, below the model's"),
    pytest.param({}, {"output_max": 128_000}, 64_000, 64_000, id="the key's, above the default"),
    pytest.param({}, {"output_max": 128_000}, 50, 50, id="the key's, below the default"),
    pytest.param({}, {"output_max": 100}, 64_000, 100, id="the model's, below the key's"),
]


@pytest.mark.parametrize(("asked", "model", "key_max", "cap"), CAPS)
@pytest.mark.parametrize(("kind", "field"), [("openai", "max_completion_tokens"), ("other", "max_tokens")])
def test_the_cap_is_injected(
    asked: dict[str, int],
    model: dict[str, int],
    key_max: int | None,
    cap: int,
    kind: str,
    field: str,
) -> None:
    outgoing = rendered(chat(**asked), route(kind, **model), key_max)
    sent = json.loads(outgoing.body)
    assert sent[field] == cap
    assert ({"max_tokens", "max_completion_tokens"} - {field}).isdisjoint(sent)
    assert sent["model"] == "own-name"
    assert outgoing.worst.output_tokens == cap
    assert outgoing.sending.cap == cap


@pytest.mark.parametrize("asked", [{}, {"service_tier": "auto"}, {"service_tier": "default"}, {"service_tier": None}])
def test_the_tier_that_was_priced_is_asked_for_where_silence_means_another(asked: dict[str, str | None]) -> None:
    assert json.loads(rendered(chat(**asked), route("openai")).body)["service_tier"] == "default"
    body = json.loads(rendered(chat(**asked), route("other")).body)
    assert {name: body[name] for name in body if name == "service_tier"} == asked


def test_a_session_is_named_only_to_a_provider_that_knows_sessions() -> None:
    asked = chat(session_id="one", prompt_cache_key="two")
    for kind, named in (("openai", None), ("groq", None), ("mistral", None), ("other", None), ("openrouter", "one")):
        sent = json.loads(rendered(asked, route(kind)).body)
        assert (sent.get("session_id"), sent["prompt_cache_key"]) == (named, "two")


def test_streams_ask_for_usage_and_remember_who_did_not() -> None:
    for options, shows in (
        (None, False),
        ({}, False),
        ({"include_usage": False}, False),
        ({"include_usage": True}, True),
    ):
        outgoing = rendered(chat(stream=True, stream_options=options))
        assert json.loads(outgoing.body)["stream_options"]["include_usage"] is True
        assert (outgoing.request.stream, outgoing.request.shows_usage) == (True, shows)
    outgoing = rendered(chat(stream=True, stream_options={"include_obfuscation": False}))
    assert json.loads(outgoing.body)["stream_options"] == {"include_usage": True, "include_obfuscation": False}
    assert "stream_options" not in json.loads(rendered(chat(stream=True), route("mistral")).body)
    assert "stream_options" not in json.loads(rendered(chat()).body)


@pytest.mark.parametrize(("asked", "completions"), [({}, 1), ({"n": 2}, 2), ({"n": None}, 1)])
def test_a_stream_has_as_many_completions_as_were_asked_for(asked: dict[str, Any], completions: int) -> None:
    assert rendered(chat(stream=True, **asked)).workload.completions == completions


def test_every_completion_counts() -> None:
    assert rendered(chat(max_tokens=10, n=5)).worst.output_tokens == 50


def test_a_prediction_can_be_billed_as_output() -> None:
    assert (
        rendered(chat(max_tokens=10, prediction={"type": "content", "content": "é" * 100})).worst.output_tokens == 210
    )


def test_images_count_by_detail_and_kind_and_not_by_bytes() -> None:
    def image(detail: str, url: str = "data:image/png;base64," + "A" * 100_000) -> dict[str, Any]:
        return {"type": "image_url", "image_url": {"url": url, "detail": detail}}

    text = rendered(chat([])).worst.input_tokens
    high = rendered(chat([image("high")])).worst.input_tokens - text
    low = rendered(chat([image("low")])).worst.input_tokens - text
    assert IMAGE_TOKENS <= high < IMAGE_TOKENS + 200
    assert worst_case.IMAGE_TOKENS_LOW <= low < worst_case.IMAGE_TOKENS_LOW + 200
    unknown = rendered(chat([image("low")]), route("other")).worst.input_tokens - text
    assert unknown >= IMAGE_TOKENS, "a provider that may not know `detail`"
    shouted = rendered(chat([image("high", "DATA:Image/PNG;base64," + "A" * 100_000)])).worst.input_tokens - text
    assert shouted < IMAGE_TOKENS + 200


@pytest.mark.parametrize(
    "where", ["data:application/pdf;base64,QQ==", "Data:video/mp4;base64,QQ==", "gs://a/b", "AAAA", ""]
)
def test_what_is_no_image_has_no_bound(where: str) -> None:
    """Gemini reads documents and films in the place of images; a page, a second of them has some 260 tokens."""
    for image in (where, {"url": where}):
        part = {"type": "image_url", "image_url": image}
        found = prepared(chat([{"type": "text", "text": "x"}, part]), route("gemini"))
        assert isinstance(found, Problem)
        assert found.kind.type == "unbounded_content"
        assert found.message.startswith("`messages[0].content[1].image_url` must be an http(s) URL")


def test_too_many_images_are_unbounded() -> None:
    image = {"type": "image_url", "image_url": "https://example.org/a.png"}
    found = prepared(chat([image] * (worst_case.IMAGES_MAX + 1)))
    assert isinstance(found, Problem)
    assert found.kind.type == "unbounded_content"


def test_sound_counts_by_length_at_its_own_price() -> None:
    data = base64.b64encode(b"\xff\xfb\x90\x00" + bytes(11_996)).decode()
    part = {"type": "input_audio", "input_audio": {"data": data, "format": "mp3"}}
    silent, loud = rendered(chat([])), rendered(chat([part]))
    assert loud.worst.input_tokens - silent.worst.input_tokens >= 16_000 // workload.AUDIO_BYTES_PER_TOKEN
    tokens = loud.worst.input_tokens
    assert loud.worst.nusd == 7 - (-(tokens * 900 + OUTPUT_TOKENS_DEFAULT * 500) // 1_000_000)


def test_tools_have_instructions() -> None:
    tool = {"type": "function", "function": {"name": "f"}}
    more = rendered(chat(tools=[tool])).worst.input_tokens - rendered(chat()).worst.input_tokens
    assert more >= worst_case.TOOLS_TOKENS


@pytest.mark.parametrize("tools", [{"tools": [{"function": {"name": "f"}}]}, {"functions": [{"name": "f"}]}])
@pytest.mark.parametrize("messages", [1, 3])
def test_the_worst_case_is_the_sum_of_its_terms(messages: int, tools: dict[str, Any]) -> None:
    """Each term by itself: the bytes of the body bound more than most requests use, and would hide one that is gone."""
    a_token = UnitPrices(**{name: getattr(PRICES, name) * 1_000_000 for name in PRICES.__struct_fields__})
    dear = PriceEntry(price_id=PriceId("p"), prices=a_token, max_output_tokens=None, context_tokens=None)
    for extra, tokens in (({}, 0), (tools, worst_case.TOOLS_TOKENS)):
        body = {"messages": [{"role": "user", "content": "hello"}] * messages, "max_tokens": 10, "n": 3, **extra}
        outgoing = rendered(body, Route(ProviderId("one"), ModelName("own-name"), "openai", dear))
        given_ = len(outgoing.body) + worst_case.REQUEST_TOKENS + worst_case.MESSAGE_TOKENS * messages + tokens
        assert (outgoing.worst.input_tokens, outgoing.worst.output_tokens) == (given_, 30)
        # What is written to a cache, and reasoning, are the most expensive here.
        assert outgoing.worst.nusd == 7_000_000 + given_ * 125 + 30 * 500


@pytest.mark.parametrize(("given_", "inputs"), [("hello", 1), (["hello", "you"], 2), ([1, 2, 3], 3)])
def test_the_worst_case_of_embeddings_is_the_sum_of_its_terms(given_: Any, inputs: int) -> None:
    outgoing = rendered({"input": given_})
    tokens = len(outgoing.body) + worst_case.REQUEST_TOKENS + worst_case.MESSAGE_TOKENS * inputs
    assert outgoing.worst.input_tokens == tokens


@pytest.mark.parametrize("dollars_per_mtok", [600, 1_000_000, 9_000_000_000])
def test_what_no_budget_holds_is_not_even_asked_for(dollars_per_mtok: int) -> None:
    """A number beyond 64 bits could not be written, and the asks that travel with it would be lost as well."""
    dear = msgspec.structs.replace(PRICES, output_nusd=dollars_per_mtok * NUSD_PER_USD)
    price = PriceEntry(price_id=PriceId("p"), prices=dear, max_output_tokens=None, context_tokens=None)
    one = ProviderEntry(
        provider=ProviderId("one"), kind="openai", base_url="https://x", allow_insecure=False, revision=1
    )
    known = Catalogue.of([one], [PriceBook(provider=one.provider, models={ModelName("m"): price})])
    body = json.dumps({"model": "m", **chat(n=COMPLETIONS_MAX, max_tokens=TOKEN_COUNT_MAX)}).encode()
    request = AgentRequest(RequestId("r"), ROUTES["/v1/chat/completions"], body, b"", 1000)
    found = judge(request, KEY, known, TenantKey(1, bytes(32)), Additions(), now=datetime(2030, 1, 1, tzinfo=UTC))
    if isinstance(found, Problem):
        assert found.kind.type == "budget_exceeded"
        assert dollars_per_mtok > 600
    else:
        assert encode_reserves(Reserves(EdgeId("edge-0"), [found.reserve]))


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@given(
    st.lists(st.tuples(st.sampled_from(["user", "system", "assistant"]), TEXT), min_size=1, max_size=8),
    TEXT,
    st.integers(1, 500),
    st.integers(1, 4),
    st.sampled_from([{}, {"ttl": "5m"}, {"ttl": "1h"}]),
    st.sampled_from(["a message", "a part", "a tool"]),
    st.data(),
)
def test_no_provider_can_bill_more(
    messages: list[tuple[str, str]],
    described: str,
    cap: int,
    n: int,
    kept: dict[str, str],
    where: str,
    data: st.DataObject,
) -> None:
    """An adversary that makes a token of every byte, puts every token in the bucket it likes, and writes to the cap;
    into a cache for an hour only where that was asked for, wherever it was."""
    mark = {"cache_control": {"type": "ephemeral", **kept}}
    tools = [
        {"type": "function", "function": {"name": "f", "description": described}, **(mark if where == "a tool" else {})}
    ]
    body = chat(max_tokens=cap, n=n, tools=tools) | {
        "messages": [{"role": role, "content": text, "name": "someone"} for role, text in messages]
    }
    last = body["messages"][-1]
    if where == "a message":
        last |= mark
    elif where == "a part":
        last["content"] = [{"type": "text", "text": last["content"], **mark}]
    worst = rendered(body).worst
    given_ = sum(len((role + text + "someone").encode()) + 8 for role, text in messages) + len(described.encode()) + 735
    split = sorted(data.draw(st.integers(0, given_)) for _ in range(2))
    reasoned = data.draw(st.integers(0, cap * n))
    billed = Usage(
        input_tokens=split[0],
        cache_read_tokens=split[1] - split[0],
        **{"cache_write_1h_tokens" if "1h" in kept.values() else "cache_write_tokens": given_ - split[1]},
        output_tokens=cap * n - reasoned,
        reasoning_tokens=reasoned,
    )
    assert billed.tokens <= worst.tokens
    assert PRICES.cost_nusd(billed) <= worst.nusd


@given(st.lists(TEXT, min_size=1, max_size=10) | TEXT | st.lists(st.integers(0, 10**6), min_size=1, max_size=20))
def test_no_embedding_can_cost_more(given_: Any) -> None:
    worst = rendered({"input": given_}).worst
    each = given_ if isinstance(given_, list) else [given_]
    tokens = sum(len(one.encode()) + 2 if isinstance(one, str) else 1 for one in each)
    assert tokens <= worst.input_tokens
    assert PRICES.cost_nusd(Usage(input_tokens=tokens)) <= worst.nusd
    assert worst.output_tokens == 0
