"""docs/spec/events.md names every member of every event, with its type, as the code reads it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect

from keyforge.chain.record import record_type
from keyforge.contracts.events import EVENTS, Attempt
from keyforge.contracts.limits import Amounts, Debit, Limit
from keyforge.contracts.personal_fields import PersonalField
from keyforge.contracts.usage import UnitPrices, Usage
from keyforge.contracts.words import Word

DOCUMENT = Path(__file__).parents[2] / "docs/spec/events.md"
PARTS: dict[type[msgspec.Struct], str] = {
    Amounts: "amounts",
    Attempt: "attempt",
    Debit: "debit",
    Limit: "limit",
    UnitPrices: "prices",
    Usage: "usage",
}
WORD, ENCRYPTED = inspect.type_info(Word), inspect.type_info(PersonalField)


def shown(type_: inspect.Type) -> str:
    """How the document names the type of a member."""
    if type_ in (WORD, ENCRYPTED):
        return "word" if type_ == WORD else "encrypted"
    match type_:
        case inspect.UnionType(types=types):
            assert any(isinstance(one, inspect.NoneType) for one in types)
            (other,) = (one for one in types if not isinstance(one, inspect.NoneType))
            return f"{shown(other)} or null"
        case inspect.VarTupleType(item_type=item):
            return f"list of {shown(item)}"
        case inspect.StructType(cls=cls):
            return PARTS[cls]
        case inspect.DateTimeType(tz=True):
            return "time"
        case inspect.StrType(min_length=None, max_length=None, pattern=None):
            return "text"
        case inspect.IntType(ge=None, gt=None, le=None, lt=None):
            return "integer"
        case inspect.BoolType():
            return "boolean"
    raise AssertionError(type_)


def members(struct: type[msgspec.Struct]) -> str:
    """The members of an object in the order of their names; one with `?` need not be there."""
    described: Any = inspect.type_info(struct)
    assert not described.forbid_unknown_fields
    return ", ".join(f"`{field.name}`{'' if field.required else '?'} {shown(field.type)}" for field in described.fields)


def rows() -> Iterator[str]:
    """The tables of the document, line by line."""
    for name, event in EVENTS.items():
        number = record_type(name)
        assert number is not None
        version = name.removeprefix("keyforge.")
        writer = "the platform's" if event.WRITER == "platform" else f"`{event.WRITER}`"
        yield f"| `{version}` | {int(number)} | {writer} | {members(event)} |"


def parts() -> Iterator[str]:
    """The objects inside events."""
    for struct, name in PARTS.items():
        yield f"| {name} | {members(struct)} |"


def table(heading: str) -> list[str]:
    """The rows of the document's table with this heading."""
    _, rest = DOCUMENT.read_text(encoding="utf-8").split(f"| {heading} |", 1)
    return rest.split("\n\n", 1)[0].splitlines()[2:]


def test_the_document_has_the_members_of_every_event_and_no_others() -> None:
    """If not: put the lines that this shows in place of those that are there."""
    assert table("event") == list(rows()), "\n".join(rows())
    assert table("object") == list(parts()), "\n".join(parts())
