"""The digest of a row of `requests`: a number that another row does not have. Pure; ClickHouse computes the same.

The rows of a key are compared by the sum of their digests modulo DIGEST_MODULUS, which does not depend on their order
and can be added to and subtracted from. It shows that a row was edited where all other sums stay as they were.
"""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from struct import Struct
from typing import Final

from keyforge.chain.record import held
from keyforge.contracts.events import RequestAdmitted
from keyforge.contracts.settlement import Settled

DIGEST_MODULUS: Final = 2**128
"""Chosen: half of SHA-256. Doubled, ClickHouse needs two sums; with 2**64 two edits that cancel each other out are
found within minutes (2**32 hashes)."""
DIGEST_BYTES: Final = 16
"""Of a SHA-256, which has 32: as many as DIGEST_MODULUS has."""
NAMES_MAX: Final = 4096
"""Combinations of names whose encoding is kept. Chosen: as `rows.STRINGS_MAX`, whose reasons are the same."""

_NUMBERS: Final = Struct("<qQqqI")
_LENGTHS: Final = Struct("<4I")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def row_digest(admitted: RequestAdmitted, admitted_at: datetime, admission: int, settled: Settled) -> int:
    """Return the digest of the row of an end: of all that answers group, filter and sum by, beside tenant and key.

    Numbers and lengths have a fixed size and come first, so no two rows have one encoding. `schema.DIGEST` is the same
    in ClickHouse. `admission` is the seq of the record of the admission.
    """
    request_id = admitted.request_id.encode()
    numbers = _NUMBERS.pack(
        microseconds(admitted_at), admission, held(settled.nusd), held(settled.tokens), len(request_id)
    )
    lengths, names = _names(admitted.provider, admitted.model, admitted.endpoint, admitted.edge, settled.terminal)
    return int.from_bytes(sha256(b"".join((numbers, lengths, request_id, names))).digest()[:DIGEST_BYTES], "little")


def microseconds(at: datetime) -> int:
    """Return microseconds since 1970; a time without a UTC offset is taken as UTC."""
    return ((at if at.tzinfo else at.replace(tzinfo=UTC)) - _EPOCH) // _MICROSECOND


@lru_cache(NAMES_MAX)
def _names(*names: str) -> tuple[bytes, bytes]:
    """Encode names that recur together: the lengths of all but the last one, and all of them."""
    encoded = [name.encode() for name in names]
    return _LENGTHS.pack(*map(len, encoded[:-1])), b"".join(encoded)
