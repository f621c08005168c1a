"""A small value that fits a JSON schema, always the same for the same schema; what cannot be met is refused by name."""

import math
from collections.abc import Mapping
from typing import Any, Final

DEPTH_MAX: Final = 32
"""Of schemas in each other. Precedent: OpenAI's structured outputs take 10 levels."""
STEPS_MAX: Final = 5_000
"""Schemas looked at for one value. Precedent: OpenAI's structured outputs take 5,000 properties."""
LENGTH_MAX: Final = 4_096
"""Characters of a string, items of an array. Chosen: the simulator's own maximum of tokens, `MAX_TOKENS_DEFAULT`."""
WORD: Final = "word"
_FORMATS: Final[Mapping[str, str]] = {
    "date-time": "2026-01-01T00:00:00Z",
    "date": "2026-01-01",
    "time": "00:00:00Z",
    "duration": "PT1S",
    "email": "agent@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
"""The formats that OpenAI's structured outputs take (its guide), and `uri`."""
_UNMET: Final = ("not", "if", "pattern", "contains", "dependentRequired", "dependentSchemas", "propertyNames")
_SCALARS: Final = frozenset(("string", "number", "integer", "boolean"))


class UnmetSchemaError(ValueError):
    """No value is made for this schema; the text names the place and the keyword."""


def fitting(schema: object) -> Any:
    """Return a value that fits a schema. Raises UnmetSchemaError."""
    try:
        return _Fitting(schema).value(schema, "schema", 0)
    except (TypeError, AttributeError, LookupError, ArithmeticError) as error:
        raise UnmetSchemaError("schema has a keyword whose value is of another type than it must be.") from error


class _Fitting:
    """One value under way: the whole schema, for references, and what may still be looked at."""

    def __init__(self, whole: object) -> None:
        self._whole = whole
        self._steps = 0
        self._open: list[object] = ["#"]

    def value(self, schema: object, at: str, depth: int) -> Any:
        self._steps += 1
        if depth > DEPTH_MAX or self._steps > STEPS_MAX:
            raise UnmetSchemaError(f"{at} is too deep, or the schema too large.")
        if schema is True:
            return WORD
        if not isinstance(schema, dict):
            raise UnmetSchemaError(f"{at} must be an object, or true.")
        if "$ref" in schema:
            return self._reference(schema, at, depth)
        if parts := schema.get("allOf"):
            rest = {name: value for name, value in schema.items() if name != "allOf"}
            return self.value(_joined([*self._each(parts, at), rest], at), at, depth + 1)
        for name in _UNMET:
            if name in schema:
                raise UnmetSchemaError(f"{at}.{name} is a keyword that the simulator does not take.")
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return _first(schema["enum"], f"{at}.enum")
        for name in ("anyOf", "oneOf"):
            if name in schema:
                rest = {key: value for key, value in schema.items() if key != name}
                return self._any(self._each(schema[name], at), rest, f"{at}.{name}", depth)
        return self._typed(schema, at, depth)

    def _reference(self, schema: dict[str, Any], at: str, depth: int) -> Any:
        """What a reference names. The same schema makes the same value, so one that is under way has no end."""
        name = schema["$ref"]
        if name in self._open:
            raise UnmetSchemaError(f"{at}.$ref leads back to itself without an end.")
        more = {key: value for key, value in schema.items() if key != "$ref"}
        self._open.append(name)
        try:
            return self.value(_joined([self._referred(name, at), more], at), at, depth + 1)
        finally:
            self._open.pop()

    def _typed(self, schema: dict[str, Any], at: str, depth: int) -> Any:
        given = schema.get("type")
        match _first(given, f"{at}.type") if isinstance(given, list) else given or _implied(schema):
            case "object":
                return self._object(schema, at, depth)
            case "array":
                return self._array(schema, at, depth)
            case "string":
                return _string(schema, at)
            case "integer" | "number" as kind:
                return _number(schema, at, whole=kind == "integer")
            case "boolean":
                return True
            case "null":
                return None
            case _:
                raise UnmetSchemaError(f"{at}.type must be one of the types of JSON.")

    def _any(self, choices: list[Any], rest: dict[str, Any], at: str, depth: int) -> Any:
        """The simplest of the alternatives that can be met: a recursion ends where it may."""
        why: UnmetSchemaError | None = None
        for choice in sorted(choices, key=_weight):
            try:
                return self.value(_joined([choice, rest], at), at, depth + 1)
            except UnmetSchemaError as error:
                why = error
        raise why or UnmetSchemaError(f"{at} must not be empty.")

    def _object(self, schema: dict[str, Any], at: str, depth: int) -> dict[str, Any]:
        """All that is required; the first property, where nothing is."""
        properties = schema.get("properties") or {}
        required = schema.get("required") or ([] if depth else list(properties)[:1])
        found = {
            name: self.value(properties.get(name, True), f"{at}.properties.{name}", depth + 1)
            for name in dict.fromkeys(required)
        }
        for name in properties:
            if len(found) < (schema.get("minProperties") or 0) and name not in found:
                found[name] = self.value(properties[name], f"{at}.properties.{name}", depth + 1)
        if len(found) < (schema.get("minProperties") or 0):
            raise UnmetSchemaError(f"{at}.minProperties is more than the properties that are named.")
        return found

    def _array(self, schema: dict[str, Any], at: str, depth: int) -> list[Any]:
        first = schema.get("prefixItems") or []
        least = schema.get("minItems") or 0
        count = max(least, min(max(len(first), 1), schema.get("maxItems", LENGTH_MAX)))
        if count > LENGTH_MAX or (schema.get("uniqueItems") and least > 1 and not first):
            raise UnmetSchemaError(f"{at}: so many items are not made (uniqueItems, minItems).")
        rest = schema.get("items", True)
        if rest is False:
            count = min(count, len(first))
        found: list[Any] = []
        for index in range(count):
            inner = first[index] if index < len(first) else rest
            try:
                found.append(self.value(inner, f"{at}.items", depth + 1))
            except UnmetSchemaError:
                if index >= least:
                    break  # an array may end here, and so does a recursion
                raise
        if len(found) < least:
            raise UnmetSchemaError(f"{at}.minItems is more than the items that the schema has.")
        return found

    def _referred(self, reference: object, at: str) -> Any:
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise UnmetSchemaError(f"{at}.$ref must be a place in the schema, such as #/$defs/Name.")
        found = self._whole
        for part in reference[1:].split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            found = found.get(name) if isinstance(found, dict) else None
        if not isinstance(found, dict):
            raise UnmetSchemaError(f"{at}.$ref names {reference[:80]!r}, which the schema does not have.")
        return found

    def _each(self, parts: object, at: str) -> list[Any]:
        if not isinstance(parts, list) or not parts:
            raise UnmetSchemaError(f"{at} has a combination that is not a list of schemas.")
        return [self._referred(one["$ref"], at) if _is_reference(one) else one for one in parts]


def _is_reference(schema: object) -> bool:
    return isinstance(schema, dict) and list(schema) == ["$ref"]


def _joined(parts: list[Any], at: str) -> Any:
    """Schemas that hold together as one: properties and required of all of them, else the last word counts."""
    whole: dict[str, Any] = {}
    for part in parts:
        if part is True:
            continue
        if not isinstance(part, dict):
            raise UnmetSchemaError(f"{at} has a part that is not a schema.")
        for name, value in part.items():
            known = whole.get(name)
            if name in ("properties", "$defs") and isinstance(known, dict) and isinstance(value, dict):
                whole[name] = {**known, **value}
            elif name == "required" and isinstance(known, list) and isinstance(value, list):
                whole[name] = known + value
            else:
                whole[name] = value
    return whole


def _weight(schema: object) -> int:
    """Scalars before null before what has parts."""
    kind = schema.get("type") if isinstance(schema, dict) else None
    if isinstance(schema, dict) and ("const" in schema or "enum" in schema):
        return 0
    return 0 if kind in _SCALARS else 1 if kind == "null" else 2


def _implied(schema: dict[str, Any]) -> str:
    if "properties" in schema or "required" in schema:
        return "object"
    if "items" in schema or "prefixItems" in schema:
        return "array"
    return "number" if "minimum" in schema or "maximum" in schema or "multipleOf" in schema else "string"


def _first(values: object, at: str) -> Any:
    if not isinstance(values, list) or not values:
        raise UnmetSchemaError(f"{at} must be a list with a value in it.")
    return values[0]


def _string(schema: dict[str, Any], at: str) -> str:
    least, most = schema.get("minLength") or 0, schema.get("maxLength", LENGTH_MAX)
    if (known := schema.get("format")) is not None:
        text = _FORMATS.get(known, WORD) if isinstance(known, str) else WORD
        if least <= len(text) <= most:
            return text
        raise UnmetSchemaError(f"{at}: format {known!r} in this length is not made.")
    if not least <= most or least > LENGTH_MAX:
        raise UnmetSchemaError(f"{at}.minLength must be at most maxLength, and {LENGTH_MAX}.")
    return (WORD * (least // len(WORD) + 1))[: min(max(least, len(WORD)), most)]


def _number(schema: dict[str, Any], at: str, *, whole: bool) -> int | float:
    """1, or what is next to it within the bounds."""
    step = schema.get("multipleOf") or (1 if whole else 0)
    least = max(schema.get("minimum", -math.inf), schema.get("exclusiveMinimum", -math.inf))
    most = min(schema.get("maximum", math.inf), schema.get("exclusiveMaximum", math.inf))
    for found in _candidates(least, most, step):
        fits = least <= found <= most and found not in (schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum"))
        if fits and (not whole or found == int(found)) and not math.isinf(found):
            return int(found) if whole else found
    raise UnmetSchemaError(f"{at} has bounds between which no number is made.")


def _candidates(least: float, most: float, step: float) -> list[float]:
    middle = [1, 0, least, most] + ([(least + most) / 2] if math.isfinite(least) and math.isfinite(most) else [])
    beside = [one + by for one in (least, most) for by in (1, -1)]
    near = [one for one in [*middle, *beside] if math.isfinite(one)]
    if not step:
        return near
    return [(at + by) * step for one in near for at in (math.floor(one / step),) for by in (0, 1, -1)]
