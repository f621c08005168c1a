"""NATS' protocol as values: the same however the bytes are cut, `ProtocolError` for whatever is not of it."""

import re
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyforge.eventlog.nats import protocol
from keyforge.eventlog.nats.protocol import (
    BadSubject,
    Delivery,
    Info,
    Parser,
    Ping,
    Pong,
    ProtocolError,
    ServerError,
    ServerMessage,
    TooLarge,
)

HEAD = b"NATS/1.0\r\nname: value\r\n\r\n"
NOBODY = b"NATS/1.0 503\r\n\r\n"
LATE = b"NATS/1.0 408 Request Timeout\r\n\r\n"
SMALL_LINE, SMALL_MESSAGE = 200, 100
"""Bounds of a parser for tests of bounds."""


def parse(data: bytes, cuts: tuple[int, ...] = ()) -> list[ServerMessage]:
    parser, said = Parser(), list[ServerMessage]()
    for start, end in pairwise([0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]):
        said += parser.feed(data[start:end])
    assert parser.empty
    return said


SAID = [
    pytest.param(b"MSG a.b 7 5\r\nhello\r\n", [Delivery(7, "a.b", "", b"hello", b"")], id="message"),
    pytest.param(b"MSG a.b 7 to.me 5\r\nhello\r\n", [Delivery(7, "a.b", "to.me", b"hello", b"")], id="reply"),
    pytest.param(b"MSG a 1 0\r\n\r\n", [Delivery(1, "a", "", b"", b"")], id="empty"),
    pytest.param(b"MSG a 1 4\r\n\r\n\r\n\r\n", [Delivery(1, "a", "", b"\r\n\r\n", b"")], id="nothing but CRLF inside"),
    pytest.param(
        b"MSG a 1 12\r\nx\r\nPING\r\n-ER\r\nPING\r\n",
        [Delivery(1, "a", "", b"x\r\nPING\r\n-ER", b""), Ping()],
        id="CRLF",
    ),
    pytest.param(b"MSG \xc3\xa9 1 1\r\n\xff\r\n", [Delivery(1, "é", "", b"\xff", b"")], id="not ASCII"),
    pytest.param(b"HMSG a 1 16 16\r\n%b\r\n" % NOBODY, [Delivery(1, "a", "", b"", NOBODY)], id="503"),
    pytest.param(b"HMSG a 1 r 32 32\r\n%b\r\n" % LATE, [Delivery(1, "a", "r", b"", LATE)], id="408"),
    pytest.param(b"HMSG a 1 25 27\r\n%bhi\r\n" % HEAD, [Delivery(1, "a", "", b"hi", HEAD)], id="header and payload"),
    pytest.param(b"HMSG a 1 r 25 27\r\n%b\r\n\r\n" % HEAD, [Delivery(1, "a", "r", b"\r\n", HEAD)], id="header, CRLF"),
    pytest.param(b"PING\r\n", [Ping()], id="ping"),
    pytest.param(b"PONG\r\n", [Pong()], id="pong"),
    pytest.param(b"PING\r\nPONG\r\nPING\r\n", [Ping(), Pong(), Ping()], id="in order"),
    pytest.param(b"+OK\r\n", [], id="ok is ignored"),
    pytest.param(b"-ERR 'Slow Consumer'\r\n", [ServerError("Slow Consumer")], id="error"),
    pytest.param(b"-ERR\r\n", [ServerError("")], id="error without text"),
    pytest.param(b"-ERR '\xff'\r\n", [ServerError("�")], id="error that is no UTF-8"),
    pytest.param(b'INFO {"max_payload":9,"future":[1]}\r\n', [Info(max_payload=9)], id="info"),
    pytest.param(b'INFO {"tls_required":true} \r\n', [Info(tls_required=True)], id="info, blank behind"),
    pytest.param(b"", [], id="nothing"),
]
NOT_NATS = [
    pytest.param(b"MSG a 1 x\r\n", id="no number"),
    pytest.param(b"MSG a x 1\r\nx\r\n", id="no number of a subscription"),
    pytest.param(b"MSG a 1 -1\r\n", id="negative"),
    pytest.param(b"MSG a 1 +1\r\nx\r\n", id="plus"),
    pytest.param(b"MSG a 1 1_0\r\n0123456789\r\n", id="underscore"),
    pytest.param("MSG a 1 ١\r\nx\r\n".encode(), id="another alphabet's one"),
    pytest.param(b"MSG a 1 9999999999\r\n", id="huge"),
    pytest.param(b"MSG a 1 %d\r\n" % (protocol.MESSAGE_BYTES_MAX + 1), id="one over the bound"),
    pytest.param(b"MSG a 1\r\n", id="a word too few"),
    pytest.param(b"MSG a 1 r 1 1\r\n", id="a word too many"),
    pytest.param(b"HMSG a 1 1\r\n", id="header, a word too few"),
    pytest.param(b"HMSG a 1 r 1 1 1\r\n", id="header, a word too many"),
    pytest.param(b"HMSG a 1 28 27\r\n%bhi\r\n" % HEAD, id="header larger than all"),
    pytest.param(b"HMSG a 1 -5 27\r\n%bhi\r\n" % HEAD, id="negative header"),
    pytest.param(b"HMSG a 1 9 9\r\nHTTP/1.1 \r\n", id="another header"),
    pytest.param(b"HMSG a 1 4 10\r\nNATS/1.0\r\n\r\n", id="header too short for its first word"),
    pytest.param(b"MSG a 1 1\r\nx\n\n", id="no CRLF behind the payload"),
    pytest.param(b"MSG a 1 1\r\nxy\r\n", id="more than was counted"),
    pytest.param(b"MSG a 1 3\r\nx\r\nPING\r\n", id="less than was counted"),
    pytest.param(b"MSG \xff 1 1\r\nx\r\n", id="subject not UTF-8"),
    pytest.param(b"MSG a 1 \xff 1\r\nx\r\n", id="reply not UTF-8"),
    pytest.param(b"MSGS a 1 1\r\nx\r\n", id="unknown verb"),
    pytest.param(b"HTTP/1.1 400 Bad Request\r\n", id="HTTP"),
    pytest.param(b"PUB a 1\r\nx\r\n", id="what only we say"),
    pytest.param(b"\r\n", id="empty line"),
    pytest.param(b" PING\r\n", id="blank before"),
    pytest.param(b"INFO\r\n", id="info of nothing"),
    pytest.param(b"INFO {\r\n", id="info that is no JSON"),
    pytest.param(b"INFO []\r\n", id="info that is no object"),
    pytest.param(b'INFO {"max_payload":"9"}\r\n', id="info of another type"),
    pytest.param(b'INFO {"version":"\xff"}\r\n', id="info that is no UTF-8"),
    pytest.param(b'INFO {"a":' + b"[" * 60_000 + b"\r\n", id="info without bottom"),
    pytest.param(b"x" * protocol.LINE_BYTES_MAX, id="line without end"),
    pytest.param(b"PING" + b" " * protocol.LINE_BYTES_MAX + b"\r\n", id="line over the bound"),
]
cuts = st.lists(st.integers(0, 10_000), max_size=20).map(tuple)


@pytest.mark.parametrize(("data", "expected"), SAID)
def test_what_is_said(data: bytes, expected: list[ServerMessage]) -> None:
    assert parse(data) == expected
    assert parse(data, tuple(range(len(data)))) == expected


@pytest.mark.parametrize("data", NOT_NATS)
def test_what_is_not_of_the_protocol(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        Parser().feed(data)
    with pytest.raises(ProtocolError):
        Parser().feed(b"PING\r\n" + data)
    parser = Parser()
    with pytest.raises(ProtocolError):
        [parser.feed(data[at : at + 1000]) for at in range(0, len(data), 1000)]


@pytest.mark.parametrize(
    ("head", "status"),
    [
        pytest.param(NOBODY, "503", id="code"),
        pytest.param(LATE, "408 Request Timeout", id="code and text"),
        pytest.param(b"NATS/1.0 503\r\nname: value\r\n\r\n", "503", id="headers behind"),
        pytest.param(HEAD, "", id="no status"),
        pytest.param(b"", "", id="no header"),
        pytest.param(b"NATS/1.0 \xff\r\n\r\n", "�", id="not UTF-8"),
    ],
)
def test_status(head: bytes, status: str) -> None:
    assert Delivery(1, "a", "", b"", head).status() == status


def test_line_and_message_at_their_bounds() -> None:
    line = b"-ERR " + b"x" * (SMALL_LINE - 7) + b"\r\n"
    assert len(Parser(line_bytes_max=SMALL_LINE).feed(line)) == 1
    with pytest.raises(ProtocolError):
        Parser(line_bytes_max=SMALL_LINE - 1).feed(line)
    message = b"MSG a 1 %d\r\n%b\r\n" % (SMALL_MESSAGE, b"x" * SMALL_MESSAGE)
    assert len(Parser(message_bytes_max=SMALL_MESSAGE).feed(message)) == 1
    with pytest.raises(ProtocolError):  # as soon as it says so, before its payload is kept
        Parser(message_bytes_max=SMALL_MESSAGE - 1).feed(message[: message.index(b"\r\n") + 2])


def spelled(said: ServerMessage) -> bytes:
    """As a server would."""
    if isinstance(said, Delivery):
        words = [said.subject, str(said.sid), *([said.reply] if said.reply else [])]
        total = len(said.head) + len(said.data)
        kind, sizes = (b"HMSG", b"%d %d" % (len(said.head), total)) if said.head else (b"MSG", b"%d" % total)
        return b"%b %b %b\r\n%b%b\r\n" % (kind, " ".join(words).encode(), sizes, said.head, said.data)
    if isinstance(said, ServerError):
        return b"-ERR '%b'\r\n" % said.text.encode()
    if isinstance(said, Info):
        return b"INFO %b\r\n" % msgspec.json.encode(said)
    return protocol.PING if isinstance(said, Ping) else protocol.PONG


names = st.text(st.characters(exclude_categories=["Cc", "Cs", "Z"]), min_size=1, max_size=10)
payloads = st.binary(max_size=60) | st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"PING\r\n", b"x"])).map(b"".join)
heads = st.sampled_from([b"", b"", HEAD, NOBODY, LATE])
deliveries = st.builds(Delivery, st.integers(0, 999_999_999), names, st.just("") | names, payloads, heads)
texts = st.text(st.characters(exclude_categories=["Cc", "Cs", "Z"], exclude_characters="'"), max_size=30)
infos = st.builds(Info, max_payload=st.integers(0, 10**9), server_id=st.text(st.characters(exclude_categories=["Cs"])))
anything = deliveries | st.just(Ping()) | st.just(Pong()) | st.builds(ServerError, texts) | infos


@given(said=st.lists(anything, max_size=8), at=cuts)
def test_what_is_said_is_the_same_however_it_is_cut(said: list[ServerMessage], at: tuple[int, ...]) -> None:
    data = b"".join(map(spelled, said))
    assert parse(data) == said
    assert parse(data, at) == said


words = st.sampled_from(
    [
        b"MSG ",
        b"HMSG ",
        b"a ",
        b"1 ",
        b"2",
        b"0",
        b"25 ",
        b"\r\n",
        b"PING",
        b"INFO {",
        b"}",
        b"-ERR ",
        b"+OK",
        HEAD,
        b"9999",
    ]
)


@given(pieces=st.lists(words | st.binary(max_size=40), max_size=60))
def test_any_bytes_say_something_or_are_not_nats_and_what_is_kept_is_bounded(pieces: list[bytes]) -> None:
    parser = Parser(line_bytes_max=SMALL_LINE, message_bytes_max=SMALL_MESSAGE)
    try:
        for piece in pieces:
            parser.feed(piece)
            assert len(parser._rest) < SMALL_LINE + SMALL_MESSAGE
    except ProtocolError:
        pass


def test_what_we_say() -> None:
    assert protocol.publish("a.b", b"hello") == b"PUB a.b 5\r\nhello\r\n"
    assert protocol.publish("a", b"", "to.me") == b"PUB a to.me 0\r\n\r\n"
    assert protocol.publish("a", b"hi", headers={"name": "value"}) == b"HPUB a 25 27\r\n%bhi\r\n" % HEAD
    assert protocol.publish("a", b"hi", "r", {"name": "value"}) == b"HPUB a r 25 27\r\n%bhi\r\n" % HEAD
    assert (
        protocol.publish("a", b"", headers={"n": "é", "m": ""})
        == "HPUB a 24 24\r\nNATS/1.0\r\nn: é\r\nm: \r\n\r\n\r\n".encode()
    )
    assert protocol.publish("é", b"") == "PUB é 0\r\n\r\n".encode()
    assert protocol.subscribe("a.*.>", 7) == b"SUB a.*.> 7\r\n"
    assert protocol.unsubscribe(7) == b"UNSUB 7\r\n"
    assert protocol.connect({"pass": 'a"\r\n'}) == b'CONNECT {"pass":"a\\"\\r\\n"}\r\n'


BAD = ["", " ", "a b", "a\r\nPING", "a\r", "a\n", "\na", "a\tb", "a\x00", "a\x1f", "a\x7f", "a\ud800"]


@pytest.mark.parametrize("bad", BAD)
def test_what_would_not_be_a_subject(bad: str) -> None:
    with pytest.raises(BadSubject):
        protocol.publish(bad, b"")
    with pytest.raises(BadSubject):
        protocol.publish(bad, b"", "reply", {"a": "b"})
    with pytest.raises(BadSubject):
        protocol.subscribe(bad, 1)
    if bad:  # an empty reply is none
        with pytest.raises(BadSubject):
            protocol.publish("a", b"", bad)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((bad, "value") for bad in [*BAD, "a:b", ":"]),
        *(("name", bad) for bad in ["a\r\nb: c", "\r", "\n", "\x00", "\ud800"]),
    ],
)
def test_what_would_not_be_a_header(name: str, value: str) -> None:
    with pytest.raises(ValueError, match="not a header"):
        protocol.publish("a", b"", headers={"good": "good", name: value})


def test_too_large_counts_headers() -> None:
    assert protocol.publish("a", b"x" * 10, bytes_max=10)
    with pytest.raises(TooLarge):
        protocol.publish("a", b"x" * 11, bytes_max=10)
    assert protocol.publish("a", b"hi", headers={"name": "value"}, bytes_max=27)
    with pytest.raises(TooLarge):
        protocol.publish("a", b"hi", headers={"name": "value"}, bytes_max=26)


values = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=10)
headers = st.dictionaries(names.filter(lambda name: ":" not in name), values, max_size=3)


@given(subject=names, reply=st.just("") | names, data=payloads, block=headers)
def test_what_we_say_is_heard_as_it_was_meant(subject: str, reply: str, data: bytes, block: dict[str, str]) -> None:
    """What a server does: another verb, and the number of a subscription behind the subject."""
    said = protocol.publish(subject, data, reply, block)
    told = re.sub(rb"^(H?)PUB (\S+) ", rb"\1MSG \2 7 ", said)
    [heard] = parse(told)
    assert isinstance(heard, Delivery)
    assert (heard.sid, heard.subject, heard.reply, heard.data) == (7, subject, reply, data)
    lines = heard.head.decode().split("\r\n")
    assert lines == (["NATS/1.0", *(f"{name}: {value}" for name, value in block.items()), "", ""] if block else [""])


@given(subject=st.text(max_size=6), reply=st.text(max_size=6), name=st.text(max_size=6), value=st.text(max_size=6))
def test_nothing_that_we_are_given_says_more_than_one_thing(subject: str, reply: str, name: str, value: str) -> None:
    try:
        said = protocol.publish(subject, b"x", reply, {name: value})
    except ValueError:
        return
    first, *rest = said.split(b"\r\n")
    assert first.startswith(b"HPUB ")
    assert len(first.split(b" ")) == (5 if reply else 4)
    assert rest == [b"NATS/1.0", f"{name}: {value}".encode(), b"", b"x", b""]
