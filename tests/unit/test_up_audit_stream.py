"""What KF_AUDIT keeps, as `up` and `declare` read it from the environment."""

import pytest

from keyforge.embedded import declare
from keyforge.embedded.declare import sizes_from
from keyforge.embedded.errors import SettingError

BYTES, DAYS = "KEYFORGE_AUDIT_STREAM_BYTES_MAX", "KEYFORGE_AUDIT_STREAM_DAYS_MAX"
LEAST, CENTURY = declare.AUDIT_STREAM_BYTES_MIN, declare.DAYS_MAX


@pytest.mark.parametrize(
    ("environment", "bytes_max", "days_max"),
    [
        pytest.param({}, None, None, id="not set"),
        pytest.param({BYTES: "", DAYS: " "}, None, None, id="empty"),
        pytest.param({BYTES: "4294967296", DAYS: "30"}, 1 << 32, 30, id="set"),
        pytest.param({DAYS: "0"}, None, 0, id="of any age"),
        pytest.param({BYTES: str(LEAST), DAYS: str(CENTURY)}, LEAST, CENTURY, id="the bounds"),
    ],
)
def test_what_is_kept(environment: dict[str, str], bytes_max: int | None, days_max: int | None) -> None:
    sizes = sizes_from(environment)
    assert (sizes.audit_bytes_max, sizes.audit_days_max) == (bytes_max, days_max)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((BYTES, value) for value in ("0", "-1", "1GB", str(LEAST - 1), "9" * 17, "\u0663" * 9)),
        *((DAYS, value) for value in ("-1", "1.5", "week", str(CENTURY + 1), "1" * 5000)),
    ],
)
def test_anything_else_names_the_setting_and_what_is_allowed(name: str, value: str) -> None:
    with pytest.raises(SettingError, match=f"{name} must be a number from [0-9]+ to [0-9]+, not "):
        sizes_from({name: value})
