"""Messages that are no frame of this version, by what is wrong with how they are encoded: every fold refuses them."""

import sys
from typing import Final

from keyforge.contracts.compression import CONTENT_BYTES_MAX, compress

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CONTENT: Final = (
    b'[{"data":{"epoch":7,"owner":"budget-0","partition":0},"id":"p0.7","source":"budget/budget-0","specversion":"1.0",'
    b'"subject":"platform","time":"2026-03-04T05:06:07.890123Z","type":"keyforge.partition.fenced.v1"}]'
)
GOOD: Final = compress(CONTENT)
V1: Final = b"\x01"
_BLOCK_BYTES_MAX: Final = 128 * 1024


def checksum(content: bytes) -> bytes:
    """The four bytes that end a zstd frame of this content."""
    return zstd.compress(content, options={zstd.CompressionParameter.checksum_flag: 1})[-4:]


def raw(content: bytes) -> bytes:
    """The last block of a frame, not compressed."""
    return (1 | len(content) << 3).to_bytes(3, "little") + content


def repeated(byte: bytes, blocks: int) -> bytes:
    """Blocks of 128 KiB of one byte, four bytes each."""
    head = 1 << 1 | _BLOCK_BYTES_MAX << 3
    return b"".join(((number == blocks) | head).to_bytes(3, "little") + byte for number in range(1, blocks + 1))


def zstd_frame(
    blocks: bytes, end: bytes, *, size: int | None, dictionary: int = 1, window_log: int | None = None
) -> bytes:
    """A zstd frame by hand (RFC 8878): its header says what it is told, `end` is its checksum or empty."""
    descriptor = 3 if dictionary > 0xFF else 1 if dictionary else 0
    fields = b""
    if window_log is None:
        descriptor |= 1 << 5  # a single segment: its window is its size
    else:
        fields += bytes(((window_log - 10) << 3,))
    fields += dictionary.to_bytes({0: 0, 1: 1, 3: 4}[descriptor & 3], "little")
    if size is not None:
        descriptor |= 3 << 6
        fields += size.to_bytes(8, "little")
    if end:
        descriptor |= 1 << 2
    return b"\x28\xb5\x2f\xfd" + bytes((descriptor,)) + fields + blocks + end


def flipped(message: bytes, place: int) -> bytes:
    """The message with the lowest bit of a byte turned over."""
    place %= len(message)
    return message[:place] + bytes((message[place] ^ 1,)) + message[place + 1 :]


def by_hand(content: bytes = CONTENT, **changed: int | None) -> bytes:
    """A message of our encoding, with what is changed in its header."""
    return V1 + zstd_frame(raw(content), checksum(content), **{"size": len(content), **changed})  # type: ignore[arg-type]


WINDOW_LOG_MAX: Final = 19
_BOMB: Final = CONTENT_BYTES_MAX // _BLOCK_BYTES_MAX + 1

FAULTS: Final[dict[str, tuple[bytes, str]]] = {
    "empty": (b"", "the message is empty"),
    "a dictionary of a newer version": (b"\x02" + GOOD[1:], "first byte 0x02 is not 0x5b (JSON) or 0x01 (zstd)"),
    "white space before JSON": (b" " + CONTENT, "first byte 0x20"),
    "a zstd frame without our byte": (GOOD[1:], "first byte 0x28"),
    "nothing after our byte": (V1, "zstd: the header of the frame is damaged or cut off"),
    "no zstd": (V1 + CONTENT, "zstd: the header of the frame is damaged or cut off"),
    "cut off in its header": (GOOD[:7], "zstd: the header of the frame is damaged or cut off"),
    "cut off": (GOOD[:-1], "zstd: the frame is cut off"),
    "a byte after it": (GOOD + b"\x00", "zstd: 1 bytes after the end of the frame"),
    "two frames": (GOOD + GOOD[1:], f"zstd: {len(GOOD) - 1} bytes after the end of the frame"),
    "a skippable frame before it": (
        V1 + b"\x50\x2a\x4d\x18\x04\x00\x00\x00skip" + GOOD[1:],
        "zstd: dictionary 0, not 1",
    ),
    "a flipped bit": (flipped(GOOD, -8), "zstd: "),
    "a flipped bit of the checksum": (flipped(GOOD, -1), "zstd: "),
    "a wrong checksum of a raw block": (V1 + zstd_frame(raw(CONTENT), b"0000", size=len(CONTENT)), "zstd: "),
    "another dictionary": (by_hand(dictionary=2), "zstd: dictionary 2, not 1"),
    "a dictionary of four bytes": (by_hand(dictionary=839_276_295), "zstd: dictionary 839276295, not 1"),
    "no dictionary": (by_hand(dictionary=0), "zstd: dictionary 0, not 1"),
    "no checksum": (V1 + zstd_frame(raw(CONTENT), b"", size=len(CONTENT)), "zstd: the frame has no checksum"),
    "no size": (by_hand(size=None, window_log=18), "zstd: the frame does not name the size of its content"),
    "a size beyond the bound": (
        by_hand(size=CONTENT_BYTES_MAX + 1, window_log=18),
        "zstd: a content of 524289 bytes, at most 524288 are allowed",
    ),
    "a bomb": (
        V1 + zstd_frame(repeated(b"[", 8_000), b"0000", size=8_000 * _BLOCK_BYTES_MAX),
        "zstd: a content of 1048576000 bytes, at most 524288 are allowed",
    ),
    "a bomb that says it is small": (
        V1 + zstd_frame(repeated(b"[", _BOMB), b"0000", size=len(CONTENT), window_log=18),
        "zstd: ",
    ),
    "a bomb of the size that is allowed, and more": (
        V1 + zstd_frame(repeated(b"[", _BOMB), b"0000", size=CONTENT_BYTES_MAX, window_log=18),
        "zstd: ",
    ),
    "more than it says": (by_hand(size=len(CONTENT) - 1), "zstd: "),
    "less than it says": (by_hand(size=len(CONTENT) + 1), "zstd: "),
    "a window beyond the bound": (
        V1
        + zstd_frame(
            repeated(b"[", 1), checksum(b"[" * _BLOCK_BYTES_MAX), size=_BLOCK_BYTES_MAX, window_log=WINDOW_LOG_MAX + 1
        ),
        "zstd: Unable to decompress Zstandard data: Frame requires too much memory",
    ),
}
"""By name: the message, and how the reason begins."""
