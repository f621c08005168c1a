"""Values that fit a JSON schema, judged by another implementation of JSON schema."""

import json
from contextlib import suppress
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyforge.simulator.fitting import UnmetSchemaError, fitting

TREE = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#"}}},
    "required": ["name", "children"],
    "additionalProperties": False,
}
LIST = {
    "$defs": {
        "Node": {
            "type": "object",
            "properties": {
                "value": {"type": "integer"},
                "next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]},
            },
            "required": ["value", "next"],
        }
    },
    "$ref": "#/$defs/Node",
}
SCHEMAS: dict[str, tuple[Any, Any]] = {
    "anything": (True, "word"),
    "empty": ({}, "word"),
    "tree": (TREE, {"name": "word", "children": []}),
    "linked list": (LIST, {"value": 1, "next": None}),
    "enum": ({"enum": ["b", "a"]}, "b"),
    "const": ({"const": {"a": 1}}, {"a": 1}),
    "type list": ({"type": ["string", "null"]}, "word"),
    "nullable object": ({"anyOf": [{"type": "object"}, {"type": "null"}]}, None),
    "integer": ({"type": "integer"}, 1),
    "least": ({"type": "integer", "minimum": 7}, 7),
    "above": ({"type": "integer", "exclusiveMinimum": 7}, 8),
    "below": ({"type": "integer", "exclusiveMaximum": -3}, -4),
    "fractional bound": ({"type": "integer", "minimum": 1.5}, 2),
    "multiple": ({"type": "integer", "multipleOf": 5, "minimum": 12}, 15),
    "between": ({"type": "number", "exclusiveMinimum": 0.25, "exclusiveMaximum": 0.75}, 0.5),
    "long": ({"type": "string", "minLength": 10}, "wordwordwo"),
    "short": ({"type": "string", "maxLength": 2}, "wo"),
    "date": ({"type": "string", "format": "date-time"}, "2026-01-01T00:00:00Z"),
    "items": ({"type": "array", "items": {"type": "boolean"}, "minItems": 3}, [True, True, True]),
    "no items": ({"type": "array", "maxItems": 0}, []),
    "tuple": ({"prefixItems": [{"type": "integer"}, {"type": "null"}], "items": False}, [1, None]),
    "joined": (
        {"allOf": [{"properties": {"a": {"type": "integer"}}, "required": ["a"]}, {"required": ["b"]}]},
        {"a": 1, "b": "word"},
    ),
    "first property": ({"type": "object", "properties": {"city": {"type": "string"}}}, {"city": "word"}),
    "least properties": (
        {"properties": {"a": {"const": 1}, "b": {"const": 2}}, "minProperties": 2},
        {"a": 1, "b": 2},
    ),
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_value_fits(name: str) -> None:
    schema, value = SCHEMAS[name]
    assert fitting(schema) == value
    assert jsonschema_rs.validator_for(schema).is_valid(value)


UNMET: dict[str, tuple[Any, str]] = {
    "nothing": (False, "schema must be an object"),
    "pattern": ({"properties": {"a": {"type": "string", "pattern": "^x"}}}, r"schema\.properties\.a\.pattern"),
    "not": ({"not": {}}, r"schema\.not"),
    "no end": ({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "without an end"),
    "no place": ({"$ref": "#/$defs/Missing"}, "Missing"),
    "elsewhere": ({"$ref": "https://example.com/schema"}, "must be a place in the schema"),
    "no number": ({"type": "integer", "minimum": 1.2, "maximum": 1.8}, "no number"),
    "contradiction": ({"type": "string", "minLength": 3, "maxLength": 2}, "minLength"),
    "huge": ({"type": "array", "minItems": 10**9}, "items"),
    "wide": ({"type": "array", "minItems": 100, "items": {"type": "array", "minItems": 100}}, "too large"),
    "no type": ({"type": "text"}, "type"),
    "types": ({"type": "object", "properties": ["a"]}, "another type"),
    "enum": ({"enum": []}, "enum"),
}


@pytest.mark.parametrize("name", UNMET)
def test_what_cannot_be_met_is_refused_by_name(name: str) -> None:
    schema, why = UNMET[name]
    with pytest.raises(UnmetSchemaError, match=why):
        fitting(schema)


SCALARS = st.one_of(
    st.fixed_dictionaries({"type": st.sampled_from(["string", "integer", "number", "boolean", "null"])}),
    st.fixed_dictionaries(
        {"type": st.just("integer"), "minimum": st.integers(-50, 50), "multipleOf": st.integers(1, 9)}
    ),
    st.fixed_dictionaries({"type": st.just("string"), "minLength": st.integers(0, 9)}),
    st.fixed_dictionaries({"enum": st.lists(st.integers() | st.text(max_size=3), min_size=1, max_size=3)}),
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.builds(
            lambda properties: {"type": "object", "properties": properties, "required": sorted(properties)},
            st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, max_size=3),
        ),
        st.fixed_dictionaries({"type": st.just("array"), "items": inner, "minItems": st.integers(0, 3)}),
        st.fixed_dictionaries({"anyOf": st.lists(inner, min_size=1, max_size=3)}),
    ),
    max_leaves=12,
)


@given(TREES)
def test_it_fits_whatever_is_nested(schema: Any) -> None:
    value = fitting(schema)
    assert jsonschema_rs.validator_for(schema).is_valid(value)
    assert fitting(json.loads(json.dumps(schema))) == value


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "$ref", "enum", "anyOf", "allOf", "items", "properties", "required", "minimum", "a"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)


@given(JSON)
def test_what_is_no_schema_is_refused_as_such(schema: Any) -> None:
    with suppress(UnmetSchemaError):
        json.dumps(fitting(schema))
