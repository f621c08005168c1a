"""How a frame is encoded in the log: as JSON, or as that JSON compressed with zstd and a dictionary of our own.

The first byte of a message tells: `[` begins the JSON itself, any other byte is the version of the dictionary that the
rest was compressed with. docs/spec/frame-format.md is the specification.

A dictionary never changes once a frame was stored with it: a better one is another version beside it. What is hashed is
the JSON of each event, never the compressed bytes, which may differ between versions of zstd.
"""

import sys
from functools import cache
from importlib.resources import files
from typing import Final

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CONTENT_BYTES_MAX: Final = 512 * 1024
"""A frame's JSON. Chosen: 256 events of 2 KiB, half of the 1 MiB that nats-server takes as a message by default."""
DICTIONARIES: Final = {1: "frame-v1.dict"}
"""The files of the dictionaries that this version reads, by version; the last is what it writes."""
LEVEL: Final = 3
"""Of compression. Measured, a request at one connection: level 6 saves 5 % of the bytes for three times the CPU."""
COMPRESSOR_BYTES_MAX: Final = 64 * 1024 * 1024
"""What goes through one compressor before a new one replaces it; one for each frame would cost 4 us more. Chosen: a
thirtieth of the 2 GiB after which zstd corrects the positions in a compressor that is used again, a path that has had
faults (facebook/zstd issues 4015 and 4292): a frame that cannot be read ends the folds of its log."""

_JSON: Final = ord("[")
_WRITTEN: Final = max(DICTIONARIES)
_WINDOW_LOG_MAX: Final = CONTENT_BYTES_MAX.bit_length() - 1
_DESCRIPTOR: Final = 4
"""Where the descriptor stands in the header of a zstd frame, after the magic number (RFC 8878 section 3.1.1.1)."""
_CHECKSUM_FLAG: Final = 0x04


class CompressionError(ValueError):
    """The message is not in an encoding of this version, or what was compressed is damaged or past its bounds."""


def compress(content: bytes) -> bytes:
    """Return a frame's JSON as a writer appends it: compressed, unless that makes it no smaller.

    JSON of more than CONTENT_BYTES_MAX, which no reader accepts compressed, is returned as it is: the log refuses it.
    """
    if len(content) > CONTENT_BYTES_MAX:
        return content
    message = _codec(_WRITTEN).compress(content)
    return message if len(message) < len(content) else content


def decompress(message: bytes) -> bytes:
    """Return the JSON of a frame as it lies in the log: at most CONTENT_BYTES_MAX of what was compressed, whatever the
    message claims. Raises CompressionError."""
    if not message:
        raise CompressionError("the message is empty")
    version = message[0]
    if version == _JSON:
        return message
    if version not in DICTIONARIES:
        known = ", ".join(f"0x{one:02x} (zstd)" for one in DICTIONARIES)
        raise CompressionError(f"first byte 0x{version:02x} is not 0x{_JSON:02x} (JSON) or {known}")
    return _codec(version).decompress(message)


class _Codec:
    """zstd with one dictionary. Threads may share it: a compressor locks itself for the frame that it makes."""

    def __init__(self, version: int) -> None:
        data = files("keyforge.contracts").joinpath(DICTIONARIES[version]).read_bytes()
        self._version = version
        self._header = bytes((version,))
        self._dictionary = zstd.ZstdDict(data)
        self._reading = {int(zstd.DecompressionParameter.window_log_max): _WINDOW_LOG_MAX}
        self._compressor = self._new_compressor()
        self._left = COMPRESSOR_BYTES_MAX

    def compress(self, content: bytes) -> bytes:
        if len(content) > self._left:
            self._compressor, self._left = self._new_compressor(), COMPRESSOR_BYTES_MAX
        self._left -= len(content)
        return self._header + self._compressor.compress(content, zstd.ZstdCompressor.FLUSH_FRAME)

    def decompress(self, message: bytes) -> bytes:
        packed = memoryview(message)[1:]
        try:
            size = self._size(packed)
            reader = zstd.ZstdDecompressor(zstd_dict=self._dictionary, options=self._reading)
            # One byte more than the header says: if there is more, zstd itself then reports that the header lies.
            content = reader.decompress(packed, max_length=size + 1)
        except zstd.ZstdError as error:
            raise CompressionError(f"zstd: {error}") from None
        if not reader.eof:
            raise CompressionError("zstd: the frame is cut off")
        if reader.unused_data:
            raise CompressionError(f"zstd: {len(reader.unused_data)} bytes after the end of the frame")
        return content

    def _size(self, packed: memoryview) -> int:
        """Return the size of the content according to the zstd frame's header, which must be as we write it."""
        try:
            info = zstd.get_frame_info(packed)
        except zstd.ZstdError:
            raise CompressionError("zstd: the header of the frame is damaged or cut off") from None
        if info.dictionary_id != self._version:
            raise CompressionError(f"zstd: dictionary {info.dictionary_id}, not {self._version}")
        if not packed[_DESCRIPTOR] & _CHECKSUM_FLAG:
            raise CompressionError("zstd: the frame has no checksum")
        if info.decompressed_size is None:
            raise CompressionError("zstd: the frame does not name the size of its content")
        if info.decompressed_size > CONTENT_BYTES_MAX:
            raise CompressionError(
                f"zstd: a content of {info.decompressed_size} bytes, at most {CONTENT_BYTES_MAX} are allowed"
            )
        return info.decompressed_size

    def _new_compressor(self) -> zstd.ZstdCompressor:
        options = {
            int(zstd.CompressionParameter.compression_level): LEVEL,
            int(zstd.CompressionParameter.checksum_flag): 1,
        }
        return zstd.ZstdCompressor(options=options, zstd_dict=self._dictionary.as_digested_dict)


@cache
def _codec(version: int) -> _Codec:
    """Return the codec of a dictionary, made when a process first needs it."""
    return _Codec(version)
