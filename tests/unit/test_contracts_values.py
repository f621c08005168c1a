"""Money, prices, windows, keys and ids: what is computed from values alone."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyforge.contracts import keyformat, subjects
from keyforge.contracts.errors import CATALOGUE, problem
from keyforge.contracts.frame import FrameError, Recorded, Unread, decode, edge_of
from keyforge.contracts.ids import RequestIds, is_slug
from keyforge.contracts.limits import WINDOWS, Amounts, Limit, Window, window_id, window_start
from keyforge.contracts.money import USD_MAX, MoneyError, nusd, usd
from keyforge.contracts.reserve import decode_answers, decode_reserves
from keyforge.contracts.usage import UnitPrices, Usage

SECRETS = keyformat.KeySecrets.derive(b"fixture root secret, 32 bytes....")
MOMENTS = st.integers(86_400 * 365, 7_258_118_400_000_000).map(
    lambda micros: datetime(1971, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
)
COUNTS = st.integers(0, 10**9)
USAGES = st.builds(
    Usage,
    **dict.fromkeys(Usage.__struct_fields__, COUNTS),
)
PRICES = st.builds(UnitPrices, **dict.fromkeys(UnitPrices.__struct_fields__, st.integers(0, 10**12)))


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("5", 5_000_000_000),
        ("0.0000000001", 1),
        ("0", 0),
        ("1e-3", 1_000_000),
        ("2.50", 2_500_000_000),
        ("0.00000000100000000000000000000000000001", 2),
        ("1e-999999999999999999", 1),
        ("9000000000.0", 9_000_000_000_000_000_000),
    ],
)
def test_dollars_are_read_as_nano_dollars_rounded_up(text: str, amount: int) -> None:
    assert nusd(text) == amount


@pytest.mark.parametrize("text", ["", "x", "-1", "NaN", "Infinity", str(USD_MAX + 1), "1,5", "0x10"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(MoneyError):
        nusd(text)


@given(st.integers(0, 10**18))
def test_dollars_written_are_read_back(amount: int) -> None:
    assert nusd(usd(amount)) == amount
    assert Decimal(usd(-amount)) == -Decimal(amount) / 10**9


@given(USAGES, PRICES)
def test_cost_is_rounded_up_once(usage: Usage, prices: UnitPrices) -> None:
    exact = Fraction(
        sum(
            getattr(usage, f"{bucket}_tokens") * getattr(prices, f"{bucket}_nusd")
            for bucket in (
                "input",
                "cache_read",
                "cache_write",
                "cache_write_1h",
                "input_audio",
                "output",
                "reasoning",
                "output_audio",
            )
        ),
        1_000_000,
    )
    assert prices.request_nusd + exact <= prices.cost_nusd(usage) < prices.request_nusd + exact + 1


@given(USAGES)
def test_tokens_are_all_buckets(usage: Usage) -> None:
    assert usage.tokens == sum(getattr(usage, field) for field in Usage.__struct_fields__)


@given(st.sampled_from(WINDOWS), MOMENTS)
def test_a_moment_is_inside_its_window(window: Window, at: datetime) -> None:
    number = window_id(window, at)
    start, end = window_start(window, number), window_start(window, number + 1)
    assert (start is None and window == "total") or (start is not None and end is not None and start <= at < end)


@given(st.sampled_from(WINDOWS), MOMENTS, st.timedeltas(timedelta(0), timedelta(days=400)))
def test_windows_only_go_forward(window: Window, at: datetime, later: timedelta) -> None:
    assert window_id(window, at) <= window_id(window, at + later)


def test_weeks_begin_on_monday() -> None:
    start = window_start("week", window_id("week", datetime(2026, 3, 4, tzinfo=UTC)))
    assert start == datetime(2026, 3, 2, tzinfo=UTC)


def test_each_unit_takes_its_own_amount() -> None:
    amounts = Amounts(nusd=7, tokens=3)
    assert [amounts.of(unit) for unit in ("usd", "tokens", "requests", "concurrency")] == [7, 3, 1, 1]


@given(st.binary(min_size=9, max_size=9), st.binary(min_size=32, max_size=32))
def test_a_key_is_recognised_and_its_digest_holds(id_random: bytes, secret_random: bytes) -> None:
    minted = keyformat.mint("vk", SECRETS, id_random, secret_random)
    assert keyformat.parse_id("vk", minted.text, SECRETS) == minted.id
    assert keyformat.digest(minted.text, SECRETS) == minted.digest
    assert keyformat.parse_id("kfa", minted.text, SECRETS) is None


@given(st.data())
def test_any_changed_character_is_noticed(data: st.DataObject) -> None:
    text = keyformat.mint("vk", SECRETS, bytes(9), bytes(32)).text
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters().filter(lambda character: character != text[at]))
    assert keyformat.parse_id("vk", text[:at] + other + text[at + 1 :], SECRETS) is None


@given(st.text(max_size=80))
def test_made_up_keys_are_dropped(text: str) -> None:
    assert keyformat.parse_id("vk", text, SECRETS) is None


def test_half_a_character_makes_no_key() -> None:
    text = keyformat.mint("vk", SECRETS, bytes(9), bytes(32)).text
    for at in range(len(text)):
        assert keyformat.parse_id("vk", text[:at] + "\ud800" + text[at + 1 :], SECRETS) is None


def test_another_deployments_key_is_dropped() -> None:
    other = keyformat.KeySecrets.derive(b"fixture root secret, another one.")
    assert keyformat.parse_id("vk", keyformat.mint("vk", other, bytes(9), bytes(32)).text, SECRETS) is None


def test_a_short_root_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        keyformat.KeySecrets.derive(b"short")


def test_request_ids_are_uuid7_unique_and_sorted_by_time() -> None:
    now = iter(range(1_000, 10_000))
    pool = iter(range(256))
    ids = RequestIds(lambda: next(now), lambda count: bytes([next(pool)]) * count)
    made = [ids.next() for _ in range(1_000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)
    assert all(text[14] == "7" and text[19] in "89ab" and len(text) == 36 for text in made)


@pytest.mark.parametrize(
    ("text", "fine"), [("acme", True), ("a" * 64, False), ("-a", False), ("A", False), ("", False)]
)
def test_slugs(text: str, fine: bool) -> None:
    assert is_slug(text) is fine


def test_a_frame_keeps_the_index_of_what_it_cannot_read() -> None:
    envelope = b'"specversion":"1.0","id":"1","source":"s","time":"2026-01-01T00:00:00Z"'
    batch = b'[{%s,"type":"keyforge.later.v9","data":{}}]' % envelope
    (read,) = decode(batch, "kf.log.0.ctl")
    assert isinstance(read, Unread)
    assert read.why == "unknown type"


NESTED = b"[" * 100_000 + b"]" * 100_000
CANCELLED = (
    b'[{"specversion":"1.0","id":"1","source":"s","time":"2026-01-01T00:00:00Z","type":"keyforge.request.cancelled.v1",'
    b'"data":{"request_id":"r","tenant":"t","key_id":"k","edge":"e","reason":"","deadline":"2026-01-01T00:00:00Z"}}]'
)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[1]",
        b"[{}]",
        b"\xff",
        b"[" * 5000,
        CANCELLED.replace(b'{"request_id"', b'{"x":%b,"request_id"' % NESTED),
        CANCELLED.replace(b'"data"', b'"x":%b,"data"' % NESTED),
        CANCELLED.replace(b"00Z", b"00", 1),
    ],
)
@pytest.mark.parametrize("subject", ["kf.log.0.ctl", "kf.log.0.use.e"])
def test_what_is_no_frame_is_refused(data: bytes, subject: str) -> None:
    with pytest.raises(FrameError):
        decode(data, subject)


@pytest.mark.parametrize(
    ("deadline", "read"),
    [
        (b"2026-01-01T00:00:00Z", Recorded),
        (b"0001-01-01T00:00:00Z", Recorded),
        (b"9999-12-31T23:59:59-23:59", Recorded),
        (b"2026-01-01T00:00:00", Unread),
        (b"0001-01-01T00:00:00", Unread),
    ],
)
def test_a_moment_without_a_zone_is_not_believed(deadline: bytes, read: type) -> None:
    data = b'"deadline":"%b"' % deadline
    (one,) = decode(CANCELLED.replace(b'"deadline":"2026-01-01T00:00:00Z"', data), "kf.log.0.use.e")
    assert isinstance(one, read)


@pytest.mark.parametrize("data", [b"", b"\xc0", b"\x92\xa1\xff\x90", b"\x93\xa1a\x90" + b"\x91" * 100_000])
def test_what_is_no_message_of_reserves_is_refused(data: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode_reserves(data)


@pytest.mark.parametrize("data", [b"", b"\xc0", b"\x91\x91\xa1\xff", b"\x91\x9b\xa5allow" + b"\x91" * 100_000])
def test_what_is_no_message_of_answers_is_refused(data: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode_answers(data)


@pytest.mark.parametrize("subject", [subjects.adm(0), subjects.ctl(0), subjects.PLATFORM_CTL])
def test_nobody_but_an_edge_has_an_edges_subject(subject: str) -> None:
    assert edge_of(subject) is None


def test_a_limit_for_some_models_is_another_limit_and_not_known_here() -> None:
    every, some, others = (Limit(cap=1, models=models, unit="usd", window="day") for models in (None, "a*", "b*"))
    assert [limit.id for limit in (every, some, others)] == ["usd/day", "usd/day/a*", "usd/day/b*"]
    assert [limit.known for limit in (every, some)] == [True, False]
    assert not Limit(cap=1, unit="words", window="day").known
    assert not Limit(cap=1, unit="usd", window="decade").known


def test_the_edge_is_read_off_its_subject() -> None:
    assert edge_of("kf.log.0.use.edge-7") == "edge-7"
    assert edge_of("kf.log.0.adm") is None


def test_the_catalogue_is_consistent() -> None:
    assert all(kind.type == name and 400 <= kind.status <= 599 and kind.message for name, kind in CATALOGUE.items())


def test_a_money_refusal_is_not_to_be_retried() -> None:
    refused = problem("budget_exceeded", metadata={"scope": "key"})
    assert refused.kind.status == 402
    assert ("x-should-retry", "false") in refused.headers()
    assert b'"code":402' in refused.body()
