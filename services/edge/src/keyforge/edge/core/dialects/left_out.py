"""What of a body is not sent on, since it says nothing to a provider: found in its parsed JSON, deleted, and named.

Official clients and frameworks give an assistant's message back as they got it, with fields that only answers have:
providers refuse those. And many write "absent" as null, of fields that nobody knows, and of those that may be absent
but not null. Such a body is none of its type, so only bodies that would be refused are looked at, and all others cost
nothing more.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec.inspect import DictType, ListType, Metadata, NoneType, StructType, Type, UnionType

NAMES_CHARS_MAX: Final = 1024
"""Of the names in one header. Chosen: 40 paths of messages; heads of answers have 8 KiB in most clients and proxies
(nginx's proxy_buffer_size is 4 or 8 KiB), and an edge may have a dozen other lines in one."""
MORE: Final = "..."
"""Stands for the names that did not fit."""
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
"""Names of fields that are not ours and may be shown in a header: no API has others."""

OnlyInAnswers = Mapping[type, frozenset[str]]
"""For each struct the names of fields that it lacks, and that answers have in its place."""


class _Shape:
    """What is known of a struct: its own names, which of them may be absent and not null, and the types of those fields
    in which there may be structs."""

    __slots__ = ("left_out", "names", "nested", "not_null")

    def __init__(self, struct: StructType, only_in_answers: OnlyInAnswers) -> None:
        self.names = {struct.tag_field, *(field.encode_name for field in struct.fields)}
        self.nested = [(field.encode_name, field.type) for field in struct.fields if _has_structs(field.type)]
        self.not_null = [
            field.encode_name for field in struct.fields if not field.required and not _may_be_null(field.type)
        ]
        self.left_out = only_in_answers.get(struct.cls, frozenset())

    def saying_nothing(self, value: dict[str, Any]) -> list[str]:
        """Return the names of an object's fields that are left out."""
        found = [name for name in self.not_null if name in value and value[name] is None]
        if self.names.issuperset(value):
            return found
        unknown = (name for name in value if name not in self.names)
        return [name for name in unknown if self._leaves_out(name, value[name])] + found

    def _leaves_out(self, name: str, value: object) -> bool:
        return name in self.left_out or (value is None and _NAME.fullmatch(name) is not None)


class LeftOut:
    """What is left out of bodies of one type."""

    __slots__ = ("_only_in_answers", "_shapes", "_tree")

    def __init__(self, tree: Type, only_in_answers: OnlyInAnswers) -> None:
        self._tree = tree
        self._only_in_answers = only_in_answers
        self._shapes: dict[type, _Shape] = {}

    def take_out(self, document: Any) -> list[str]:
        """Delete from parsed JSON what says nothing; returns the paths."""
        names: list[str] = []
        self._visit(document, self._tree, names, "")
        return names

    def _visit(self, value: Any, type_: Type, names: list[str], path: str) -> None:
        if isinstance(value, list):
            items = next((one.item_type for one in choices(type_) if isinstance(one, ListType)), None)
            if items is not None:
                for place, one in enumerate(value):
                    self._visit(one, items, names, f"{path}[{place}]")
        elif isinstance(value, dict) and (struct := _struct_for(value, type_)) is not None:
            shape = self._shapes.get(struct.cls)
            if shape is None:
                shape = self._shapes[struct.cls] = _Shape(struct, self._only_in_answers)
            below = f"{path}." if path else ""
            for name in shape.saying_nothing(value):
                del value[name]
                names.append(below + name)
            for name, nested in shape.nested:
                one = value.get(name)
                if isinstance(one, dict | list):
                    self._visit(one, nested, names, below + name)


def choices(type_: Type) -> Sequence[Type]:
    """Return the types of a union, or the one that a type is."""
    if isinstance(type_, Metadata):
        return choices(type_.type)
    return type_.types if isinstance(type_, UnionType) else (type_,)


def _may_be_null(type_: Type) -> bool:
    return any(isinstance(one, NoneType) for one in choices(type_))


def _has_structs(type_: Type) -> bool:
    return any(
        _has_structs(one.item_type) if isinstance(one, ListType) else isinstance(one, StructType)
        for one in choices(type_)
    )


def _struct_for(value: dict[str, Any], type_: Type) -> StructType | None:
    """Return as which struct an object would be read; None: as none, or as an object whose keys are the caller's."""
    possible = choices(type_)
    structs = [one for one in possible if isinstance(one, StructType)]
    if not structs or any(isinstance(one, DictType) for one in possible):
        return None
    field = structs[0].tag_field
    if field is None:
        return structs[0]
    found = value.get(field)
    return {one.tag: one for one in structs}.get(found) if isinstance(found, str) else None


def listed(names: Sequence[str]) -> str:
    """Return names as one header has them: as many as fit whole, and `...` for the others."""
    text = ", ".join(names)
    if len(text) <= NAMES_CHARS_MAX:
        return text
    kept = text[: NAMES_CHARS_MAX - len(MORE) - 1].rpartition(", ")[0]
    return f"{kept}, {MORE}" if kept else MORE
