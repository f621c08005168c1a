"""The rules of docs/spec/audit-format.md that a record can break, by their numbers there."""

from enum import StrEnum, unique
from typing import NamedTuple


@unique
class RecordRule(StrEnum):
    """F: the form, which one record and the hash before it show. M: the meaning, which takes the chain's earlier
    records. H: the head that is known from elsewhere."""

    LENGTH = "F1"
    FORMAT = "F2"
    KNOWN_TYPE = "F3"
    CHAIN_ID = "F4"
    SEQ = "F5"
    PREVIOUS = "F6"
    POSITION = "F7"
    HASH = "F8"
    KEY_VERSION = "F9"
    MAC = "F10"
    BODY_HASH = "F11"
    CHAIN = "M1"
    FIRST = "M2"
    LOG = "M3"
    TIME = "M4"
    ENVELOPE = "M5"
    TYPE = "M6"
    EVENT = "M7"
    WRITER = "M8"
    OWNER = "M9"
    KEYS = "M10"
    REQUEST = "M11"
    COPY = "M12"
    ADMISSION = "M13"
    TERMINAL = "M14"
    EDGE = "M15"
    AMOUNT = "M16"
    SETTLED = "M17"
    RESERVED = "M18"
    HEAD = "H1"


class Broken(NamedTuple):
    """The rule that a record breaks, and how it does in one line."""

    rule: RecordRule
    why: str
