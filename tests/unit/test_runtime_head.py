"""What a head must meet: one Host, no two values of what is read as one, no transfer coding but chunked."""

import pytest

from keyforge.runtime.head import ONE_VALUE, last_answer, wrong_head

HOST = (b"host", b"x")


def coded(*values: bytes) -> list[tuple[bytes, bytes]]:
    return [HOST, *((b"transfer-encoding", value) for value in values)]


@pytest.mark.parametrize(
    ("headers", "version", "status", "param"),
    [
        pytest.param([], "1.1", 400, "host", id="no host"),
        pytest.param([], "1.2", 400, "host", id="no host in a later version"),
        pytest.param([HOST, HOST], "1.1", 400, "host", id="two hosts that are the same"),
        pytest.param([HOST, (b"host", b"y")], "1.0", 400, "host", id="two hosts in 1.0"),
        *(
            pytest.param([HOST, (name, b"a"), (name, b"b")], "1.1", 400, name.decode(), id=f"two values of {name!r}")
            for name in sorted(ONE_VALUE)
        ),
        pytest.param(coded(b"gzip, chunked"), "1.1", 501, "transfer-encoding", id="another coding before chunked"),
        pytest.param(coded(b"gzip", b"chunked"), "1.1", 501, "transfer-encoding", id="in two lines"),
        pytest.param(coded(b"\xff"), "1.1", 501, "transfer-encoding", id="no name of a coding"),
        pytest.param(coded(b"chunked, Chunked"), "1.1", 400, "transfer-encoding", id="chunked twice"),
        pytest.param(coded(b"chunked,"), "1.1", 400, "transfer-encoding", id="an empty coding"),
        pytest.param(coded(b""), "1.1", 400, "transfer-encoding", id="no coding"),
    ],
)
def test_wrong_heads(headers: list[tuple[bytes, bytes]], version: str, status: int, param: str) -> None:
    wrong = wrong_head(headers, version)
    assert wrong is not None
    assert (wrong.kind.status, wrong.param) == (status, f"header.{param}")
    assert param in wrong.message.lower()
    assert f" {status} ".encode() in last_answer(wrong).split(b"\r\n")[0]


@pytest.mark.parametrize(
    ("headers", "version"),
    [
        pytest.param([HOST], "1.1", id="a host"),
        pytest.param([], "1.0", id="no host in 1.0"),
        pytest.param([HOST, (b"authorization", b"a"), (b"authorization", b"a")], "1.1", id="the same value twice"),
        pytest.param([HOST, (b"accept", b"a"), (b"accept", b"b")], "1.1", id="a list in two lines"),
        pytest.param(coded(b" Chunked "), "1.1", id="chunked"),
    ],
)
def test_right_heads(headers: list[tuple[bytes, bytes]], version: str) -> None:
    assert wrong_head(headers, version) is None
