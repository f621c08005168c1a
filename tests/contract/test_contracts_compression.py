"""How a frame is encoded in the log: docs/spec/frame-format.md, its vectors, and what a reader refuses.

A frame that was stored is read for good: vectors are added, never changed or removed, and neither is a dictionary.
"""

import base64
import hashlib
import json
import subprocess
import sys
import threading
import tracemalloc
import zipfile
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keyforge.contracts import compression, frame, subjects
from keyforge.contracts.compression import (
    CONTENT_BYTES_MAX,
    DICTIONARIES,
    CompressionError,
    compress,
    decompress,
)
from keyforge.contracts.frame import FrameError
from tests.unit.frame_faults import CONTENT, FAULTS, GOOD, WINDOW_LOG_MAX, by_hand, repeated, zstd_frame

ROOT = Path(__file__).parents[2]
VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "vectors" / "frame-format-v1.json").read_text())
PINNED = {1: "cacb687eb0baf904b5af80f4ca945a6de33fd541b24d2ac12fcda326b23f33a3"}
"""SHA-256 of each dictionary. One that differs makes every frame that was stored with it unreadable."""
KEYS_OF = 40
"""How often a piece of an event is repeated in a content that is made up here."""


def named(vectors: list[dict[str, str]]) -> list[Any]:
    return [pytest.param(one, id=one["name"]) for one in vectors]


def test_a_dictionary_never_changes() -> None:
    found = {version: files("keyforge.contracts").joinpath(name).read_bytes() for version, name in DICTIONARIES.items()}
    assert {version: hashlib.sha256(data).hexdigest() for version, data in found.items()} == PINNED
    assert {one["version"]: one["sha256"] for one in VECTORS["dictionaries"]} == PINNED
    assert {version: int.from_bytes(data[4:8], "little") for version, data in found.items()} == {n: n for n in PINNED}
    assert {len(data) for data in found.values()} == {8192}


@pytest.mark.parametrize("vector", named(VECTORS["valid"]))
def test_what_was_stored_is_read(vector: dict[str, str]) -> None:
    assert decompress(base64.b64decode(vector["message"])) == vector["content"].encode()


@pytest.mark.parametrize("vector", named(VECTORS["rejected"]))
def test_what_is_no_frame_is_rejected(vector: dict[str, str]) -> None:
    with pytest.raises(CompressionError):
        decompress(base64.b64decode(vector["message"]))


@pytest.mark.parametrize("vector", named(VECTORS["valid"]))
def test_what_is_written_is_read_and_no_larger(vector: dict[str, str]) -> None:
    content = vector["content"].encode()
    message = compress(content)
    assert decompress(message) == content
    assert len(message) <= len(content)
    assert message[0] == (ord("[") if content == b"[]" else 1)


@pytest.mark.parametrize(("message", "reason"), [pytest.param(*fault, id=name) for name, fault in FAULTS.items()])
def test_a_fault_is_named(message: bytes, reason: str) -> None:
    with pytest.raises(CompressionError) as raised:
        decompress(message)
    assert str(raised.value).startswith(reason)
    assert len(str(raised.value)) < 200
    for subject in (subjects.adm(0), subjects.ctl(0), subjects.PLATFORM_CTL):
        with pytest.raises(FrameError) as refused:
            frame.decode(message, subject)
        assert str(refused.value) == str(raised.value)


def test_frames_by_hand_are_read_as_far_as_the_format_allows() -> None:
    """So that what the faults change is what they are refused for."""
    assert decompress(by_hand()) == CONTENT
    for window_log in (10, WINDOW_LOG_MAX):
        assert decompress(by_hand(window_log=window_log)) == CONTENT


@pytest.mark.parametrize("size", [100, CONTENT_BYTES_MAX])
def test_a_bomb_takes_no_more_memory_than_it_says(size: int) -> None:
    """128 MiB in 4 KiB, of which the header says little."""
    bomb = b"\x01" + zstd_frame(repeated(b"[", 1024), b"0000", size=size, window_log=WINDOW_LOG_MAX)
    with pytest.raises(CompressionError):
        decompress(bomb)
    tracemalloc.start()
    try:
        with pytest.raises(CompressionError):
            decompress(bomb)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 2 * size + 64 * 1024


def test_any_cut_is_rejected() -> None:
    for end in range(len(GOOD)):
        with pytest.raises(CompressionError):
            decompress(GOOD[:end])


@given(st.integers(min_value=0, max_value=len(GOOD) - 1), st.integers(min_value=0, max_value=255))
@example(0, ord("["))
def test_no_damage_makes_another_content(place: int, byte: int) -> None:
    damaged = GOOD[:place] + bytes((byte,)) + GOOD[place + 1 :]
    if damaged.startswith(b"["):  # the content itself then, and no JSON
        with pytest.raises(FrameError):
            frame.decode(damaged, subjects.ctl(0))
        return
    try:
        assert decompress(damaged) == CONTENT
    except CompressionError:
        assert damaged != GOOD


@given(st.binary(max_size=300))
def test_no_message_does_more_than_be_rejected(data: bytes) -> None:
    for message in (data, b"\x01" + data, GOOD[:6] + data):
        with suppress(CompressionError):
            assert len(decompress(message)) <= CONTENT_BYTES_MAX


@pytest.mark.parametrize(
    "size",
    [2, 15, 16, 32 * 1024 - 1, 32 * 1024, 32 * 1024 + 1, 128 * 1024 + 1, CONTENT_BYTES_MAX - 1, CONTENT_BYTES_MAX],
)
@pytest.mark.parametrize("piece", [b"a", b'"0123456789abcdef",', bytes(range(256)) * 3 + b"\n"])
def test_every_size_is_read_back(size: int, piece: bytes) -> None:
    content = (b"[" + piece * (size // len(piece) + 1))[:size]
    message = compress(content)
    assert decompress(message) == content
    assert len(message) <= len(content)


def test_what_no_reader_takes_compressed_is_not_compressed() -> None:
    """The log then refuses it, as it always did, however well it would compress."""
    content = b"[" + b"a" * CONTENT_BYTES_MAX
    assert compress(content) is content


def test_what_does_not_become_smaller_stays_json() -> None:
    noise = b"[" + hashlib.shake_256(b"noise").digest(10_000)
    assert compress(noise) is noise
    assert compress(b"[]") == b"[]"


def test_a_compressor_is_replaced_long_before_its_positions_overflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "COMPRESSOR_BYTES_MAX", 3 * len(CONTENT))
    codec = compression._Codec(1)
    used = []
    for _ in range(9):
        assert codec.decompress(codec.compress(CONTENT)) == CONTENT
        used.append(codec._compressor)
    assert [used[n] is used[n - 1] for n in range(1, 9)] == [True, True, False, True, True, False, True, True]


def test_threads_share_a_compressor() -> None:
    wrong: list[bytes] = []

    def work(mine: bytes) -> None:
        content = b"[" + b",".join([CONTENT[1:-1].replace(b"budget-0", mine)] * KEYS_OF) + b"]"
        wrong.extend(content for _ in range(300) if decompress(compress(content)) != content)

    threads = [threading.Thread(target=work, args=(b"budget-%d" % n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_wheel_holds_the_dictionary(tmp_path: Path) -> None:
    uv = ROOT / ".venv-tool" / "bin" / "uv"
    command = (uv, "build", "--quiet", "--offline", "--python", sys.executable, "--wheel", "--out-dir", tmp_path)
    done = subprocess.run((*command, ROOT / "libs" / "contracts"), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        for name in DICTIONARIES.values():
            packed = opened.read(f"keyforge/contracts/{name}")
            assert packed == files("keyforge.contracts").joinpath(name).read_bytes()


def test_importing_the_frame_reads_no_dictionary() -> None:
    """Every process imports it, most of them for its names alone."""
    program = (
        "import keyforge.contracts.frame as frame, keyforge.contracts.compression as compression;"
        "assert compression._codec.cache_info().currsize == 0"
    )
    subprocess.run((sys.executable, "-c", program), check=True)
