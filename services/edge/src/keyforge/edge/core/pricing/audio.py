"""Whether audio is of the format that it is declared as, and its bytes bound how long it lasts.

mp3   an ID3 tag or a frame in front: MPEG audio has at least 8,000 bits a second
wav   RIFF with uncompressed samples, at least BYTES_PER_S_MIN of them a second: a file may declare that one byte lasts
      a second, or use a codec, and then a few bytes are hours
"""

import base64
import binascii
import struct
from typing import Final

BYTES_PER_S_MIN: Final = 1_000
HEAD_BYTES: Final = 6 * 1024
"""The samples of a wav begin within these; a multiple of three, which base64 writes as whole fours."""
CHUNKS_MAX: Final = 64
_UNCOMPRESSED: Final = frozenset((1, 3, 6, 7))
"""Integers, floats, A-law, mu-law."""
_EXTENSIBLE: Final = 0xFFFE
_FORMAT: Final = struct.Struct("<HHIIHH")
"""Its kind, channels, samples a second, bytes a second, bytes of a sample in all channels, bits of one in one."""
_KIND_AT: Final = 24
"""Where an extensible format holds its kind."""


def is_bounded(data: str, named: str) -> bool:
    """Return whether `data` (base64) is audio of the format that it is `named`, mp3 or wav, and has a bound."""
    try:
        head = base64.b64decode(data[: HEAD_BYTES // 3 * 4], validate=True)
    except (binascii.Error, ValueError):
        return False
    if named == "mp3":
        return head.startswith(b"ID3") or (head[:1] == b"\xff" and head[1:2] >= b"\xe0")
    return _is_bounded_wav(head)


def _is_bounded_wav(head: bytes) -> bool:
    """Walk the chunks up to the samples: exactly one of them describes the samples."""
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return False
    at, formats = 12, 0
    for _ in range(CHUNKS_MAX):
        name, size = head[at : at + 4], int.from_bytes(head[at + 4 : at + 8], "little")
        at += 8
        if name == b"data":
            return formats == 1
        if name == b"fmt ":
            if not _is_dense(head[at : at + size]):
                return False
            formats += 1
        at += size + size % 2
        if at >= len(head):
            return False
    return False


def _is_dense(format_: bytes) -> bool:
    if len(format_) < _FORMAT.size:
        return False
    kind, channels, rate, bytes_per_s, sample_bytes, _ = _FORMAT.unpack_from(format_)
    if kind == _EXTENSIBLE:
        kind = int.from_bytes(format_[_KIND_AT : _KIND_AT + 2], "little")
    return kind in _UNCOMPRESSED and min(bytes_per_s, rate * sample_bytes, rate * channels) >= BYTES_PER_S_MIN
