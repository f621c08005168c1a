"""How large the log may become: what a setting allows, what a home keeps, how a total is divided."""

import json
from pathlib import Path

import pytest

from keyforge.embedded.errors import SettingError, StackError
from keyforge.embedded.home import Home
from keyforge.embedded.sizes import HomeSizes, asked, bytes_min, human, of_home
from keyforge.eventlog.streams import Sizes, specs

MIB = 1024 * 1024
GIB = 1024 * MIB


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.prepare()
    return made


@pytest.mark.parametrize(("total", "partitions"), [(64 * GIB, 16), (64 * GIB, 4), (16 * MIB, 4), (20 * MIB + 7, 16)])
def test_a_total_is_divided_and_the_buckets_have_their_room(total: int, partitions: int) -> None:
    shares = Sizes.of_total(total, partitions)
    taken = sum(spec.bytes_max for spec in specs(range(partitions), replicas=1, sizes=shares))
    assert 0 <= total * 19 // 20 - taken <= partitions + 2, "four fifths, a tenth and a twentieth, each rounded down"
    assert shares.log_bytes_max * partitions <= total * 4 // 5
    assert shares.audit_new_bytes_max == total // 10
    assert shares.platform_bytes_max == total // 20


def test_the_smallest_total_holds_the_largest_frame_in_every_log() -> None:
    for partitions in (1, 4, 16, 256):
        shares = Sizes.of_total(bytes_min(partitions), partitions)
        assert shares.log_bytes_max >= MIB
        assert shares.platform_bytes_max > 512 * 1024


@pytest.mark.parametrize("text", ["", " "])
def test_a_size_that_is_not_set(text: str) -> None:
    assert asked({"KEYFORGE_LOG_BYTES_MAX": text}, 4) is None
    assert asked({}, 4) is None


@pytest.mark.parametrize(
    "text", ["x", "1e9", "64GB", "-1", "0", "16777215", "1" * 30, "١٢٣٤٥٦٧٨٩", "1152921504606846977"]
)
def test_a_size_that_cannot_be_used(text: str) -> None:
    with pytest.raises(SettingError, match=r"KEYFORGE_LOG_BYTES_MAX must be a number of bytes from 16777216 .* to 115"):
        asked({"KEYFORGE_LOG_BYTES_MAX": text}, 4)


def test_the_least_size_grows_with_the_partitions() -> None:
    assert asked({"KEYFORGE_LOG_BYTES_MAX": str(16 * MIB)}, 12) == 16 * MIB
    with pytest.raises(SettingError, match="from 20971520 \\(16 partitions\\)"):
        asked({"KEYFORGE_LOG_BYTES_MAX": str(20 * MIB - 1)}, 16)


@pytest.mark.parametrize(
    ("free_bytes", "wanted", "sizes"),
    [
        pytest.param(10 * GIB, None, HomeSizes(5 * GIB, 5 * GIB), id="half of what is free"),
        pytest.param(900 * GIB, None, HomeSizes(64 * GIB, 64 * GIB), id="at most 64 GiB"),
        pytest.param(900 * GIB, 200 * GIB, HomeSizes(200 * GIB, 200 * GIB), id="more, as it is set"),
        pytest.param(
            900 * GIB, 16 * MIB, HomeSizes(16 * MIB, 64 * GIB), id="less, with room to raise it while it runs"
        ),
        pytest.param(10 * MIB, 16 * MIB, HomeSizes(16 * MIB, 16 * MIB), id="set on a full disk"),
    ],
)
def test_a_first_start(home: Home, free_bytes: int, wanted: int | None, sizes: HomeSizes) -> None:
    assert of_home(home, wanted, 4, free_bytes=free_bytes) == sizes
    assert of_home(home, None, 4, free_bytes=free_bytes // 100) == sizes, "a later start has what the first chose"
    assert home.sizes.stat().st_mode & 0o777 == 0o600


def test_a_later_start_raises_and_never_lowers(home: Home) -> None:
    of_home(home, None, 4, free_bytes=10 * GIB)
    assert of_home(home, GIB, 4, free_bytes=GIB) == HomeSizes(5 * GIB, 5 * GIB)
    assert of_home(home, 6 * GIB, 4, free_bytes=GIB) == HomeSizes(6 * GIB, 6 * GIB)
    assert of_home(home, None, 4, free_bytes=GIB) == HomeSizes(6 * GIB, 6 * GIB)


def test_a_home_with_a_log_from_before_keeps_the_store_that_it_had(home: Home) -> None:
    (home.nats / "jetstream").mkdir()
    assert of_home(home, None, 4, free_bytes=10 * GIB) == HomeSizes(5 * GIB, 64 * GIB)


def test_a_disk_that_is_too_full(home: Home) -> None:
    with pytest.raises(StackError, match="half of what its disk has free, 10 bytes, is less than 16777216"):
        of_home(home, None, 4, free_bytes=20)
    assert not home.sizes.exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"log_bytes_max": 1}',
        '{"log_bytes_max": "1", "store_bytes_max": 1}',
        '{"log_bytes_max": 0, "store_bytes_max": 1}',
        '{"log_bytes_max": true, "store_bytes_max": 1}',
        '{"log_bytes_max": 1, "store_bytes_max": 1, "more": 1}',
        json.dumps({"log_bytes_max": 1 << 61, "store_bytes_max": 1}),
    ],
)
def test_sizes_that_are_damaged_are_not_replaced(home: Home, text: str) -> None:
    home.sizes.write_text(text)
    with pytest.raises(StackError, match=r"sizes.json must hold log_bytes_max and store_bytes_max in bytes"):
        of_home(home, None, 4, free_bytes=GIB)
    assert home.sizes.read_text() == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (64 * GIB, "64.0 GiB"), (1 << 60, "1048576.0 TiB")],
)
def test_a_size_in_words(size: int, text: str) -> None:
    assert human(size) == text
