"""An address is read in one way, or refused; and shown without what is secret in it."""

import pytest

from keyforge.contracts import urls

PASSWORD = "hunter2"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://a\nb", "blank or a control"),
        ("http://h\t:1", "blank or a control"),
        ("http://h: 1", "blank or a control"),
        ("http://h\u2028h", "blank or a control"),
        ("http://", "no host"),
        (f"http://u:{PASSWORD}@", "no host"),
        ("http://[::1", "cannot be read"),
        (f"http://u:{PASSWORD}\u2100@h", "cannot be read"),
        ("http://a..b", "label has 1 to 63"),
        (f"http://{'a' * 64}", "label has 1 to 63"),
        (f"http://{'ü' * 64}", "label has 1 to 63"),
        ("http://h:65536", "port is not a number"),
        (f"http://u:{PASSWORD}/x@h", "port is not a number"),
        ("http://h:0", "port is 0"),
    ],
)
def test_what_cannot_be_connected_to_is_refused_and_not_shown(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as refused:
        urls.split(url)
    assert PASSWORD not in str(refused.value)
    assert not urls.is_http(url)


@pytest.mark.parametrize(
    "url", ["http://h", "https://[::1]:8222/x", f"http://{'a' * 63}.b.", " http://h:1 ", "http://münchen"]
)
def test_what_can_is_not(url: str) -> None:
    assert urls.is_http(url)
    assert not urls.is_http(url.replace("http", "nats"))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://h:1/x", "http://h:1/x"),
        (f"http://u:{PASSWORD}@h:1", "http://h:1"),
        (f"http://u:{PASSWORD}@{PASSWORD}@h:1", "http://h:1"),
        (f"http://u:{PASSWORD}/{PASSWORD}@h:1", "http://h:1"),
        (f"http://u:{PASSWORD}\n{PASSWORD}@h:1", "http://h:1"),
        ("nonsense", "nonsense"),
    ],
)
def test_a_password_is_not_shown_whatever_is_in_it(url: str, shown: str) -> None:
    assert urls.shown(url) == shown
