"""What an edge reads of the headers of a request: above all, which of them has the key."""

import pytest

from keyforge.edge.inbound.request_head import read_head


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({}, b""),
        ({"authorization": "Bearer a"}, b"a"),
        ({"authorization": "bEaReR   a "}, b"a"),
        ({"x-api-key": " a "}, b"a"),
        ({"api-key": " a "}, b"a"),
        ({"authorization": "Bearer a", "x-api-key": "b", "api-key": "c"}, b"a"),
        ({"x-api-key": "b", "api-key": "c"}, b"b"),
        ({"authorization": "Bearer ", "x-api-key": "  ", "api-key": "c"}, b"c"),
        ({"authorization": "Basic a", "api-key": "c"}, b"c"),
        ({"authorization": "a"}, b""),
    ],
)
def test_the_first_of_three_headers_has_the_key(fields: dict[str, str], key: bytes) -> None:
    assert read_head({name.encode(): value.encode() for name, value in fields.items()}).key_text == key


@pytest.mark.parametrize(
    ("length", "read"), [("12", 12), ("", -1), ("x", -1), ("-1", -1), ("0" * 17 + "1", 1), ("1" * 19, -1)]
)
def test_lengths(length: str, read: int) -> None:
    assert read_head({b"content-length": length.encode()}).content_length == read
