"""A field that is wrong: the message alone says which, and what is allowed there, as official clients show no more."""

from typing import Any

import msgspec
import pytest

from keyforge.contracts.errors import Problem
from keyforge.edge.core.dialects import strict_json
from keyforge.edge.core.dialects.field_faults import REASON_CHARS_MAX, allowed_at
from keyforge.edge.core.dialects.json_faults import PARAM_CHARS_MAX
from keyforge.edge.core.dialects.openai_chat.request import CHAT, EMBEDDINGS
from keyforge.edge.core.dialects.strict_json import CONTAINERS_MAX, DEPTH_MAX
from tests.unit.test_edge_chat_request import WRONG, chat, user

ROLES = "one of `assistant`, `developer`, `function`, `system`, `tool`, `user`"
PARTS = "one of `text`, `image_url`, `input_audio`, `refusal`, `thinking`"
SAID: list[Any] = [
    pytest.param(
        chat(temprature=1),
        "`temprature` is not supported: its effect on the cost is not known. Leave it out.",
        id="typo",
    ),
    pytest.param(
        chat(messages=[{"role": "user", "contents": "x"}]), "`messages[0].contents` is not supported", id="deep"
    ),
    pytest.param(chat(service_tier="flex"), "`service_tier` must be `auto` or `default`, or left out", id="tier"),
    pytest.param(chat(modalities=["audio"]), "`modalities[0]` must be `text`, or left out", id="modality"),
    pytest.param(chat(web_search_options={}), "`web_search_options` must be left out", id="only null"),
    pytest.param(chat(reasoning={"mode": "pro"}), "`reasoning.mode` must be `standard`, or left out", id="mode"),
    pytest.param(
        user([{"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1d"}}]),
        "`messages[0].content[0].cache_control.ttl` must be `1h` or `5m`, or left out",
        id="in a part",
    ),
    pytest.param(user([{"type": "file"}]), f"`messages[0].content[0].type` must be {PARTS}: the cost", id="part"),
    pytest.param(
        user([{"type": "input_audio", "input_audio": {"data": "", "format": "flac"}}]),
        "`messages[0].content[0].input_audio.format` must be `mp3` or `wav`: the cost",
        id="sound",
    ),
    pytest.param(chat(tools=[{"type": "mcp"}]), "`tools[0].type` must be `custom` or `function`: the cost", id="tool"),
    pytest.param(
        chat(messages=[{"role": "assistant", "audio": {}}]),
        "`messages[0].audio` is not supported: its cost",
        id="audio",
    ),
    pytest.param(chat(messages=[{"role": "king"}]), f"`messages[0].role` must be {ROLES}.", id="role"),
    pytest.param(
        user([{"type": "image_url", "image_url": {"url": "https://a", "detail": "huge"}}]),
        "`messages[0].content[0].image_url.detail` must be one of `auto`, `high`, `low`.",
        id="inside a union",
    ),
    pytest.param(chat(n="1"), "`n` must be `int | null`, not `str`.", id="type"),
    pytest.param(chat(n=0), "`n` must be `int` >= 1.", id="bound"),
    pytest.param(chat(messages=[]), "`messages` must be `array` of length >= 1.", id="length"),
    pytest.param(chat()[:-1] + b',"temperature":1e999}', "`temperature`: number out of range.", id="range"),
    pytest.param(b"{}", "`model` is required.", id="missing"),
    pytest.param(chat(messages=[{"content": "x"}]), "`messages[0].role` is required.", id="missing, deep"),
    pytest.param(b"[]", "The request body must be `object`, not `array`.", id="no object"),
]


@pytest.mark.parametrize(("body", "message"), SAID)
def test_the_message_names_the_field_and_what_is_allowed(body: bytes, message: str) -> None:
    found = strict_json.read(body, CHAT, [])
    assert isinstance(found, Problem)
    assert found.message.startswith(message)
    assert found.message.endswith(".")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (chat()[:-1] + b',"metadata":{"a":1,"a":1}}', "has the key `a` in one object twice."),
        (chat(metadata={"a": [[]] * (CONTAINERS_MAX + 1)}), f"has more than {CONTAINERS_MAX} objects and arrays."),
        (chat()[:-1] + b',"metadata":{"a":' + b"[" * 99 + b"]" * 99 + b"}}", f"more than {DEPTH_MAX} levels deep."),
    ],
)
def test_so_do_messages_of_the_body_as_a_whole(body: bytes, message: str) -> None:
    found = strict_json.read(body, CHAT, [])
    assert isinstance(found, Problem)
    assert found.message.endswith(message)


def test_embeddings_are_explained_alike() -> None:
    found = strict_json.read(b'{"model":"m","input":"x","encoding_format":"hex"}', EMBEDDINGS, [])
    assert isinstance(found, Problem)
    assert found.message == "`encoding_format` must be `base64` or `float`."


@pytest.mark.parametrize(("body", "type_", "param"), WRONG)
def test_what_the_parameter_names_the_message_does(body: bytes, type_: str, param: str | None) -> None:
    found = strict_json.read(body, CHAT, [])
    assert isinstance(found, Problem)
    if type_ in ("request_invalid", "field_unsupported", "unbounded_content") and param:
        assert f"`{param}" in found.message


@pytest.mark.parametrize("name", ["x" * 3_000_000, "a`b", "é", "a b", "$", "a.b[0]"])
def test_a_name_of_the_agents_is_quoted_within_bounds(name: str) -> None:
    for body in (chat(**{name: 1}), chat(service_tier=name), chat(messages=[{"role": name}])):
        found = strict_json.read(body, CHAT, [])
        assert isinstance(found, Problem)
        assert len(found.message) <= PARAM_CHARS_MAX + REASON_CHARS_MAX


def test_where_any_value_may_stand_none_is_listed() -> None:
    tree = msgspec.inspect.type_info(CHAT.type)
    for path in ("model", "temperature", "messages", "logit_bias[...]", "metadata.a", "nowhere.at[0].all", ""):
        assert allowed_at(tree, path) == ()
