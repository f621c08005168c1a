"""A refusal that an outcome on its way may lift is asked again; any other stands."""

import pytest

from keyforge.contracts.ids import KeyId
from keyforge.edge.core.settling import KEYS_MAX, PAUSES_S, SETTLING_S, Settling

KEY, OTHER = KeyId("key"), KeyId("other")


@pytest.mark.parametrize(
    ("key", "refused", "tries", "now_s", "pause_s"),
    [
        pytest.param(KEY, "concurrency_limited", 0, 10.01, PAUSES_S[0], id="first"),
        pytest.param(KEY, "budget_exceeded", 1, 10.03, PAUSES_S[1], id="second"),
        pytest.param(KEY, "budget_exceeded", 2, 10.06, None, id="no third"),
        pytest.param(KEY, "rate_limited", 0, 10.01, None, id="a count of requests does not come back"),
        pytest.param(KEY, "key_revoked", 0, 10.01, None, id="revoked is revoked"),
        pytest.param(KEY, "budget_exceeded", 0, 10.001 + SETTLING_S, None, id="long ago"),
        pytest.param(OTHER, "budget_exceeded", 0, 10.01, None, id="another key's"),
    ],
)
def test_pauses(key: KeyId, refused: str, tries: int, now_s: float, pause_s: float | None) -> None:
    settling = Settling()
    settling.told(KEY, 10.0)
    assert settling.pause_s(key, refused, tries, now_s) == pause_s


def test_what_is_remembered_is_bounded() -> None:
    settling = Settling()
    for number in range(KEYS_MAX + 1):
        settling.told(KeyId(str(number)), 10.0)
    assert settling.pause_s(KeyId("0"), "budget_exceeded", 0, 10.01) is None
    assert settling.pause_s(KeyId("1"), "budget_exceeded", 0, 10.01) is not None
