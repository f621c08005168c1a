"""A body that is no JSON is named with its place: the encoding, half of a surrogate pair, what the parser found."""

import json
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyforge.contracts.errors import Problem
from keyforge.edge.core.dialects import json_faults, strict_json
from keyforge.edge.core.dialects.openai_chat.request import CHAT, EMBEDDINGS, ChatRequest, EmbeddingsRequest
from tests.unit.test_edge_chat_request import chat, user

HELLO = b'{"model":"m","messages":[{"role":"user","content":"hello"}]}'
PADDING = b'{"model":"m","user":"' + b"x" * json_faults.EXPLAINED_BYTES_MAX + b'","messages":['


def refused(body: bytes) -> Problem:
    found = strict_json.read(body, CHAT, [])
    assert isinstance(found, Problem)
    assert found.kind.type == "json_invalid"
    json.loads(found.body())  # whatever the body was, the answer is JSON
    return found


@pytest.mark.parametrize(
    ("body", "param"),
    [
        pytest.param(
            b'{"model":"m","messages":[{"role":"user","content":"se\xf1or"}]}', "messages[0].content", id="Latin-1"
        ),
        pytest.param(
            b'{"model":"m","messages":[{"role":"user","content":"\x93hi\x94"}]}', "messages[0].content", id="Windows"
        ),
        pytest.param(
            b'{"model":"m","messages":[{"role":"user","content":"\x82\xa0"}]}', "messages[0].content", id="Shift JIS"
        ),
        pytest.param(
            b'{"model":"m","messages":[{},{"content":[{"type":"text","text":"\xc4"}]}]}',
            "messages[1].content[0].text",
            id="deep",
        ),
        pytest.param(b'{"model":"m","stop":["a","b\xe9"]}', "stop[1]", id="in a list"),
        pytest.param(
            b'{"model":"m","user":"\xed\xa0\xbd\xed\xb8\x80"}', "user", id="CESU-8: a pair of surrogates, each encoded"
        ),
        pytest.param(b'{"model":"m","metadata":{"a":{"b":1,"\xe9t\xe9":1}}}', "metadata.a", id="in a key"),
        pytest.param(b'{"mod\xe8le":"m"}', None, id="in a key of the body"),
        pytest.param(b'{"model":"m"} \xff', None, id="after it"),
        pytest.param(b"\xff", None, id="nothing else"),
        pytest.param(PADDING + b'{"role":"user","content":"se\xf1or"}]}', "messages[0].content", id="in a large body"),
        pytest.param(b'{"a\\"b":"x","c\\\\":["\xf1"]}', "c\\\\[0]", id="after escapes"),
    ],
)
def test_what_is_not_utf8_is_named_with_its_place(body: bytes, param: str | None) -> None:
    at = next(at for at, byte in enumerate(body) if byte >= 0x80)
    found = refused(body)
    assert found.param == param
    assert f"not UTF-8 at byte {at} (0x{body[at]:02x})" in found.message
    assert (f"`{param}`" in found.message) == (param is not None)


@pytest.mark.parametrize(
    ("encoding", "name"),
    [
        ("utf-16", "UTF-16"),
        ("utf-16-le", "UTF-16"),
        ("utf-16-be", "UTF-16"),
        ("utf-32", "UTF-32"),
        ("utf-32-le", "UTF-32"),
        ("utf-32-be", "UTF-32"),
    ],
)
def test_wide_encodings_are_named(encoding: str, name: str) -> None:
    assert f"in {name}" in refused(HELLO.decode().encode(encoding)).message


def test_a_byte_order_mark_is_passed_over_once() -> None:
    assert isinstance(strict_json.read(b"\xef\xbb\xbf" + HELLO, CHAT, []), ChatRequest)
    embeddings = b'\xef\xbb\xbf{"model":"m","input":"x"}'
    assert isinstance(strict_json.read(embeddings, EMBEDDINGS, []), EmbeddingsRequest)
    refused(b"\xef\xbb\xbf" * 2 + HELLO)
    refused(b"\xef\xbb\xbf" * 1_000_000)


@pytest.mark.parametrize(
    ("body", "escape", "param"),
    [
        pytest.param(user("cut @"), rb"\ud83d", "messages[0].content", id="the first half, at the end"),
        pytest.param(user("cut @ and on"), rb"\uD83D", "messages[0].content", id="the first half, in capitals"),
        pytest.param(user("@ is left"), rb"\ude00", "messages[0].content", id="the second half"),
        pytest.param(
            user("@ is left").replace(b"@", rb"\ude00@"), rb"\ud83d", "messages[0].content", id="the wrong way round"
        ),
        pytest.param(user("a @A"), rb"\ud83d\u0041", "messages[0].content", id="another escape after it"),
        pytest.param(user("@"), rb"\ud83d\ud83d\ude00", "messages[0].content", id="before a pair"),
        pytest.param(user("@").replace(b"@", rb"\\\\@"), rb"\ud83d", "messages[0].content", id="after backslashes"),
        pytest.param(
            user("ok @").replace(b"ok", rb"\ud83d\ude00 \\ud83d \" \n"),
            rb"\udfff",
            "messages[0].content",
            id="after what is none",
        ),
        pytest.param(
            chat(messages=[{"role": "user", "content": "x"}, {"role": "tool", "tool_call_id": "c", "content": "@"}]),
            rb"\ud83d",
            "messages[1].content",
            id="a tool's result, cut",
        ),
        pytest.param(chat(metadata={"a": {"@": 1}}), rb"\ud83d", "metadata.a", id="in a key"),
        pytest.param(chat(**{"@": 1}), rb"\ud83d", None, id="in a key of the body"),
        pytest.param(
            chat(metadata={"a": {"@": 1, "b": 2}}).replace(b'"b"', rb'"\ud83d"'),
            rb"\ud83d",
            None,
            id="in a key that comes twice",
        ),
        pytest.param(
            PADDING + b'{"role":"user","content":"@"}]}', rb"\ud83d", "messages[0].content", id="in a large body"
        ),
    ],
)
def test_half_of_a_surrogate_pair_is_named_with_its_place(body: bytes, escape: bytes, param: str | None) -> None:
    at = body.index(b"@")
    body = body.replace(b"@", escape)
    found = strict_json.read(body, CHAT, [])
    assert isinstance(found, Problem)
    json.loads(found.body())
    if found.kind.type == "json_duplicate_key":
        assert found.param == "?"
        return
    if b"\\ude00\\ud83d" in body:
        at, escape = body.index(rb"\ude00"), rb"\ude00"
    assert (found.kind.type, found.param) == ("json_invalid", param)
    assert f"`{escape[:6].decode()}` at byte {at}" in found.message
    assert "surrogate" in found.message


@pytest.mark.parametrize("text", ["😀", "a 😀😀 b", "\\ud83d", '\\\\"ud83d', '\n\t"\\', "é\u2028"])
def test_whole_pairs_and_what_only_looks_like_one_are_text(text: str) -> None:
    found = strict_json.read(user(text), CHAT, [])
    assert isinstance(found, ChatRequest)
    assert found.messages[0].content == text


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "ends early"),
        (HELLO[:-1], "ends early"),
        (HELLO[:-1] + b",}", "byte 60"),
        (b"hello", "byte 0"),
        (HELLO + b"x", "byte 61"),
        (b"{'model':'m'}", "byte 1"),
    ],
)
def test_the_parsers_words_are_handed_on(body: bytes, words: str) -> None:
    assert words in refused(body).message


def paths(value: Any, path: str = "") -> list[tuple[str, str]]:
    """Return every string in a value that is marked, with its path."""
    if isinstance(value, dict):
        return [found for name, one in value.items() for found in paths(one, f"{path}.{name}".removeprefix("."))]
    if isinstance(value, list):
        return [found for place, one in enumerate(value) for found in paths(one, f"{path}[{place}]")]
    return [(path, value)] if isinstance(value, str) and "@" in value else []


NAMES = st.text(string.ascii_letters + '":{}[],', min_size=1, max_size=6)
TREES = st.recursive(
    st.none() | st.integers(-9, 9) | st.text(string.ascii_letters + '"\\:{}[], é', max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(TREES, max_size=3), st.lists(TREES, max_size=3), st.sampled_from([None, 2]), st.data())
def test_a_place_is_found_wherever_it_is(before: Any, after: Any, indent: int | None, data: st.DataObject) -> None:
    name = data.draw(NAMES.filter(lambda one: '"' not in one and one != "zz"))
    wrapped: Any = {"a": before, name: [before, {"x": before, "y": "a @ b", "z": after}], "zz": after}
    (path, _), *_ = paths(wrapped)
    body = json.dumps(wrapped, indent=indent).encode()
    assert json_faults.place_of(body, body.index(b"@")) == (path, f", in `{path}`")


def test_a_place_is_looked_for_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    body = b"[" + b"1," * 50 + b'"@"]'
    assert json_faults.place_of(body, body.index(b"@"))[0] == "[50]"
    monkeypatch.setattr(json_faults, "TOKENS_MAX", 20)
    assert json_faults.place_of(body, body.index(b"@")) == (None, "")


@pytest.mark.parametrize(
    ("tail", "type_", "message"),
    [
        pytest.param(rb'"parsed":"\ud83d"}]}', "json_invalid", "half of a surrogate pair", id="half of a pair"),
        pytest.param(rb'"surprise":{"\ud83d":1}}]}', "json_invalid", "half of a surrogate pair", id="in a key"),
        pytest.param(b'"surprise":1}],}', "json_invalid", "trailing comma in object (byte", id="a comma too many"),
        pytest.param(b'"surprise":1}]', "json_invalid", "it ends early", id="cut off"),
        pytest.param(b'"parsed":1e999}]}', "request_invalid", "The request body: number out of range.", id="too large"),
        pytest.param(b'"parsed":[' + b"9" * 5000 + b"]}]}", "request_invalid", "out of range", id="too long"),
        pytest.param(b'"parsed":' + b"[" * 5000 + b"]" * 5000 + b"}]}", "json_too_deep", "", id="too deep"),
    ],
)
def test_json_that_is_wrong_further_on_is_named_before_an_unknown_field(tail: bytes, type_: str, message: str) -> None:
    found = strict_json.read(b'{"model":"m","messages":[{"role":"user","content":"x",' + tail, CHAT, [])
    assert isinstance(found, Problem)
    assert found.kind.type == type_
    assert message in found.message
