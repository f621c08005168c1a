"""What of a request is not sent on, since it says nothing to a provider: read, taken out, and named to the agent.

Official clients and frameworks give an assistant's message back as they got it, with fields that only answers have:
providers refuse those. A field of such a name has the type `LeftOut`, so it is read like any other, and nothing but its
name remains. The same goes for a field that nobody knows and that is null: that is how many clients write "absent".
"""

import re
from collections.abc import Sequence
from functools import cache
from typing import Any, Final, get_args

import msgspec
from msgspec import UNSET, Struct
from msgspec.inspect import DictType, Field, ListType, Metadata, StructType, Type, UnionType

NAMES_CHARS_MAX: Final = 1024
"""Of the names in one header. Chosen: 40 paths of messages; heads of answers have 8 KiB in most clients and proxies
(nginx's proxy_buffer_size is 4 or 8 KiB), and an edge may have a dozen other lines in one."""
MORE: Final = "..."
"""Stands for the names that did not fit."""
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
"""Names of fields that are not ours and may be shown in a header: no API has others."""


class LeftOut:
    """The value of a field that only answers have."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value


class LeftOutNull(LeftOut):
    """The same, where anything but null would mean something. Raises ValueError for that."""

    __slots__ = ()

    def __init__(self, value: object) -> None:
        if value is not None:
            raise ValueError("Expected `null`")
        super().__init__(value)


def value_of(one: Any) -> object:
    """Return what was read: a hook of encoders, by which a body that was read can be written back whole."""
    if isinstance(one, LeftOut):
        return one.value
    raise NotImplementedError


def take_out(struct: Struct, names: list[str], path: str = "") -> None:
    """Make every `LeftOut` in a struct absent, at any depth; adds the paths to `names`."""
    for name in _fields_with_left_out(type(struct)):
        value = getattr(struct, name)
        if isinstance(value, LeftOut):
            setattr(struct, name, UNSET)
            names.append(path + name)
        elif isinstance(value, list):
            for place, one in enumerate(value):
                if isinstance(one, Struct):
                    take_out(one, names, f"{path}{name}[{place}].")
        elif isinstance(value, Struct):
            take_out(value, names, f"{path}{name}.")


@cache
def _fields_with_left_out(type_: type[Struct]) -> tuple[str, ...]:
    """Return the fields of a struct in which a `LeftOut` may be. Bounded: by the structs that there are."""
    return tuple(field.name for field in msgspec.structs.fields(type_) if _may_hold(field.type))


def _may_hold(type_: Any) -> bool:
    if not isinstance(type_, type):
        return any(map(_may_hold, get_args(type_)))
    if issubclass(type_, Struct):
        return bool(_fields_with_left_out(type_))
    return issubclass(type_, LeftOut) or any(map(_may_hold, get_args(type_)))


def take_out_unknown_nulls(document: Any, type_: Type, names: list[str], path: str = "") -> None:
    """Delete the members of parsed JSON that are null and that its type lacks; adds their paths to `names`."""
    struct = _struct_for(document, type_)
    if struct is not None:
        fields = {field.encode_name: field for field in struct.fields}
        for name in [name for name in document if document[name] is None and _is_unknown(name, fields, struct)]:
            del document[name]
            names.append(path + name)
        for name, value in document.items():
            if name in fields:
                take_out_unknown_nulls(value, fields[name].type, names, f"{path}{name}.")
    elif isinstance(document, list) and (items := _items_of(type_)) is not None:
        for place, one in enumerate(document):
            take_out_unknown_nulls(one, items, names, f"{path[:-1]}[{place}].")


def _is_unknown(name: str, fields: dict[str, Field], struct: StructType) -> bool:
    return name not in fields and name != struct.tag_field and _NAME.fullmatch(name) is not None


def _choices(type_: Type) -> Sequence[Type]:
    if isinstance(type_, Metadata):
        return _choices(type_.type)
    return type_.types if isinstance(type_, UnionType) else (type_,)


def _struct_for(document: Any, type_: Type) -> StructType | None:
    """Return as which struct a value would be read; None: as none, or as an object whose keys are the caller's."""
    choices = _choices(type_)
    if not isinstance(document, dict) or any(isinstance(one, DictType) for one in choices):
        return None
    for one in choices:
        if isinstance(one, StructType) and (one.tag_field is None or document.get(one.tag_field) == one.tag):
            return one
    return None


def _items_of(type_: Type) -> Type | None:
    return next((one.item_type for one in _choices(type_) if isinstance(one, ListType)), None)


def listed(names: Sequence[str]) -> str:
    """Return names as one header has them: as many as fit whole, and `...` for the others."""
    text = ", ".join(names)
    if len(text) <= NAMES_CHARS_MAX:
        return text
    kept = text[: NAMES_CHARS_MAX - len(MORE) - 1].rpartition(", ")[0]
    return f"{kept}, {MORE}" if kept else MORE
