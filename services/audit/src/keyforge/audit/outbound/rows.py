"""Encodes rows as ClickHouse's RowBinary: little-endian numbers, strings after a LEB128 length. One buffer per INSERT.

The same rows give the same bytes, so an INSERT may be sent again. Measured: encoding here costs a tenth of handing
Python objects to the client.
"""

from collections.abc import Iterable
from functools import lru_cache
from struct import Struct
from struct import error as struct_error
from typing import Final

from keyforge.audit.core.row_digest import microseconds
from keyforge.audit.core.sealed import RequestEnd
from keyforge.chain.seal import Chain, Record
from keyforge.contracts.usage import Usage

GENERATION: Final = 1
NOT_REPORTED: Final = -1
"""`reported_cost_nusd` of a request whose provider reported no cost."""
STRINGS_MAX: Final = 4096
"""Combinations of strings whose encoding is kept. Chosen: at less than 1 KB each 4 MB at most; doubled, no more hits
where fewer keys and models are busy at once, halved, those of one busy installation are encoded again."""

_END: Final = Struct("<qqHHII8qqqqqqIIQIQQ")
_RANGES: Final = {"q": (-(2**63), 2**63 - 1), "H": (0, 2**16 - 1), "I": (0, 2**32 - 1), "Q": (0, 2**64 - 1)}
_LETTERS: Final = "qqHHII" + "q" * 13 + "IIQIQQ"
_NOTHING: Final = Usage()
_SHORT_MAX: Final = 2048
"""Lengths below this are encoded once, in `_SHORT`; doubled, that table takes twice the memory."""


def _leb128(length: int) -> bytes:
    return bytes((length,)) if length < 128 else bytes((length & 127 | 128,)) + _leb128(length >> 7)


_SHORT: Final = [_leb128(length) for length in range(_SHORT_MAX)]
"""The encoding of every length below _SHORT_MAX, which is longer than most bodies."""


def _length(length: int) -> bytes:
    return _SHORT[length] if length < _SHORT_MAX else _leb128(length)


def text(value: bytes) -> bytes:
    """Encode a string."""
    return _length(len(value)) + value


@lru_cache(STRINGS_MAX)
def _strings(*strings: str) -> bytes:
    """Encode strings that recur together."""
    return b"".join([text(word.encode()) for word in strings])


def names(chain: Chain) -> bytes:
    """Encode the columns chain, tenant and key_id, which all records of a chain share."""
    return text(chain.name.encode()) + text(chain.tenant.encode()) + text(chain.key_id.encode())


def records(found: Iterable[Record], cache: dict[str, bytes]) -> bytes:
    """Encode rows of `records` (schema.RECORD_COLUMNS). `cache` keeps `names` by chain."""
    out: list[bytes] = []
    for record in found:
        chain = record.chain
        head = cache.get(chain.name)
        if head is None:
            head = cache[chain.name] = names(chain)
        body = record.body
        out += (head, record.header, record.hash, record.mac, _length(len(body)), body)
    return b"".join(out)


def ends(found: Iterable[RequestEnd]) -> bytes:
    """Encode rows of `requests` (schema.REQUEST_COLUMNS)."""
    return b"".join([_end(end) for end in found])


def _end(end: RequestEnd) -> bytes:
    admitted, completed, settled = end.admitted, end.completed, end.settled
    strings = (
        _strings(admitted.tenant, admitted.key_id),
        text(admitted.request_id.encode()),
        _strings(
            admitted.provider,
            admitted.model,
            admitted.endpoint,
            admitted.edge,
            settled.terminal,
            end.outcome,
            completed.usage_source if completed else "none",
        ),
    )
    usage = (completed.usage if completed else None) or _NOTHING
    reported = completed.reported_cost_nusd if completed else None
    numbers = (
        microseconds(end.admitted_at),
        microseconds(end.ended_at),
        completed.status if completed else 0,
        len(completed.attempts) if completed else 0,
        completed.first_byte_ms if completed else 0,
        completed.duration_ms if completed else 0,
        usage.input_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.cache_write_1h_tokens,
        usage.input_audio_tokens,
        usage.output_tokens,
        usage.reasoning_tokens,
        usage.output_audio_tokens,
        admitted.reserved.tokens,
        settled.tokens,
        admitted.reserved.nusd,
        settled.nusd,
        NOT_REPORTED if reported is None else reported,
        end.partition,
        GENERATION,
        end.sequence,
        end.frame_index,
        end.admission,
        end.version,
    )
    try:
        packed = _END.pack(*numbers)
    except struct_error:  # an edge reported what no column can hold: the nearest value; the record is exact
        packed = _END.pack(*(_clamped(number, letter) for number, letter in zip(numbers, _LETTERS, strict=True)))
    return b"".join((*strings, packed))


def _clamped(number: int, letter: str) -> int:
    least, most = _RANGES[letter]
    return min(max(number, least), most)
