"""The names of chains, read: whose chain it is, and of which log."""

import re
from typing import Final, Literal, NamedTuple

from keyforge.chain.record import PLATFORM_PARTITION
from keyforge.chain.seal import PLATFORM_CHAIN
from keyforge.contracts.ids import is_slug

ChainKind = Literal["key", "tenant", "partition", "platform"]

KEY_ID: Final = re.compile(r"[0-9A-Za-z_-]{1,64}")
"""A key's id that may be part of the name of its chain."""
_PARTITION: Final = re.compile(r"0|[1-9][0-9]{0,9}")


class ChainName(NamedTuple):
    """A chain's name in its parts. `partition`: the log that its name states, None where the name states none."""

    kind: ChainKind
    tenant: str = ""
    key_id: str = ""
    partition: int | None = None


def parse(name: str) -> ChainName | None:
    """Return the parts of a chain's name; None if no chain may have it."""
    if name == PLATFORM_CHAIN:
        return ChainName("platform", partition=PLATFORM_PARTITION)
    match name.split("/"):
        case ["key", tenant, key_id] if is_slug(tenant) and KEY_ID.fullmatch(key_id):
            return ChainName("key", tenant, key_id)
        case ["tenant", tenant] if is_slug(tenant):
            return ChainName("tenant", tenant)
        case ["partition", number] if _PARTITION.fullmatch(number) and int(number) < PLATFORM_PARTITION:
            return ChainName("partition", partition=int(number))
    return None
