"""A sound is taken where its bytes bound how long it lasts, and is then never billed above its bound."""

import base64
import io
import struct
import wave
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyforge.contracts.errors import Problem
from keyforge.edge.core.dialects.openai_chat import workload
from keyforge.edge.core.judge import OutgoingRequest
from keyforge.edge.core.pricing.audio import BYTES_PER_S_MIN, is_bounded
from tests.unit.test_edge_worst_case import chat, prepared, route

TOKENS_PER_S = 32


def wav(rate: int, seconds: float = 1.0, *, width: int = 1, channels: int = 1) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setparams((channels, width, rate, 0, "NONE", ""))
        written.writeframes(bytes(int(rate * seconds) * width * channels))
    return file.getvalue()


def outgoing(sound: bytes, named: str = "wav") -> OutgoingRequest | Problem:
    part = {"type": "input_audio", "input_audio": {"data": base64.b64encode(sound).decode(), "format": named}}
    return prepared(chat([part]), route("gemini"))


@given(st.integers(1, 48_000), st.sampled_from([1, 2, 3, 4]), st.sampled_from([1, 2]), st.floats(0.1, 4.0))
def test_no_wav_is_billed_above_its_bound(rate: int, width: int, channels: int, seconds: float) -> None:
    found = outgoing(wav(rate, seconds, width=width, channels=channels))
    if isinstance(found, OutgoingRequest):
        assert found.worst.input_tokens >= TOKENS_PER_S * seconds
    else:
        assert rate * channels < BYTES_PER_S_MIN
        assert found.kind.type == "unbounded_content"


def test_an_hour_in_few_bytes_is_refused() -> None:
    found = outgoing(wav(100, 3600.0))
    assert isinstance(found, Problem)
    assert found.message.startswith("`messages[0].content[0].input_audio` must be an mp3")
    taken = outgoing(wav(8_000, 60.0))
    assert isinstance(taken, OutgoingRequest)
    assert taken.worst.input_tokens < 60 * 8_000 * 4 // 3 // workload.AUDIO_BYTES_PER_TOKEN + 1_000


GOOD = wav(16_000, width=2)
SAMPLES = GOOD[36:]


def head(*chunks: bytes) -> bytes:
    return b"RIFF\xff\xff\xff\xffWAVE" + b"".join(chunks) + SAMPLES


def fmt(kind: int, rate: int = 16_000, bytes_per_s: int = 32_000, sample_bytes: int = 2, more: bytes = b"") -> bytes:
    fields = struct.pack("<HHIIHH", kind, 1, rate, bytes_per_s, sample_bytes, 16) + more
    return b"fmt " + struct.pack("<I", len(fields)) + fields


def extensible(kind: int) -> bytes:
    return fmt(0xFFFE, more=struct.pack("<HHIH", 22, 16, 4, kind) + bytes(14))


ODD = b"LIST\x03\0\0\0abc\0"


@pytest.mark.parametrize(
    ("sound", "named", "taken"),
    [
        pytest.param(GOOD, "wav", True, id="wav"),
        pytest.param(head(ODD, fmt(1), ODD), "wav", True, id="other chunks around"),
        pytest.param(head(fmt(3)), "wav", True, id="floats"),
        pytest.param(head(fmt(7)), "wav", True, id="mu-law"),
        pytest.param(head(extensible(1)), "wav", True, id="extensible"),
        pytest.param(head(extensible(0x55)), "wav", False, id="extensible, an mp3 inside"),
        pytest.param(head(fmt(0x42)), "wav", False, id="a codec for speech"),
        pytest.param(head(fmt(2)), "wav", False, id="ADPCM"),
        pytest.param(head(fmt(1), fmt(1)), "wav", False, id="two formats that are dense"),
        pytest.param(head(fmt(1, rate=1)), "wav", False, id="a sample a second"),
        pytest.param(head(fmt(1, bytes_per_s=1)), "wav", False, id="a byte a second"),
        pytest.param(head(fmt(1, sample_bytes=0)), "wav", False, id="samples of nothing"),
        pytest.param(head(fmt(1), fmt(1, rate=1)), "wav", False, id="two formats"),
        pytest.param(head(b"fmt \x02\0\0\0\x01\0"), "wav", False, id="half a format"),
        pytest.param(head(), "wav", False, id="no format"),
        pytest.param(head(fmt(1), b"JUNK\xff\xff\0\0"), "wav", False, id="samples far away"),
        pytest.param(head(fmt(1), b"JUNK\xff\xff\xff\xff"), "wav", False, id="a chunk without end"),
        pytest.param(head(fmt(1), *[b"JUNK\0\0\0\0"] * 100), "wav", False, id="too many chunks"),
        pytest.param(b"RIFX" + GOOD[4:], "wav", False, id="big-endian"),
        pytest.param(b"", "wav", False, id="nothing"),
        pytest.param(b"\xff\xfb\x90\x00", "wav", False, id="an mp3 that is called wav"),
        pytest.param(b"\xff\xfb\x90\x00", "mp3", True, id="mp3"),
        pytest.param(b"ID3\x04", "mp3", True, id="mp3 with a tag"),
        pytest.param(b"OggS", "mp3", False, id="Ogg"),
        pytest.param(GOOD, "mp3", False, id="a wav that is called mp3"),
        pytest.param(b"", "mp3", False, id="no mp3"),
    ],
)  # fmt: skip
def test_what_is_taken(sound: bytes, named: str, taken: bool) -> None:
    assert is_bounded(base64.b64encode(sound).decode(), named) is taken


@pytest.mark.parametrize("data", ["é", "//uQ AAA", "//u\nQAAA", "data:audio/mp3;base64,//uQ", "//uQA"])
def test_what_decoders_read_in_different_ways_is_refused(data: Any) -> None:
    assert not is_bounded(data, "mp3")


@given(st.binary(max_size=200), st.sampled_from(["wav", "mp3"]))
def test_any_bytes_are_taken_or_refused(noise: bytes, named: str) -> None:
    for sound in (noise, GOOD[:12] + noise):
        assert is_bounded(base64.b64encode(sound).decode(), named) in (True, False)
