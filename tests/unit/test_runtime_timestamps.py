"""Times that an operators' API takes: text that says which moment it means."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from keyforge.runtime.timestamps import Timestamp

ADAPTER: TypeAdapter[datetime] = TypeAdapter(Timestamp)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2030-01-31T00:00:00Z", datetime(2030, 1, 31, tzinfo=UTC)),
        ("2030-01-31t00:00:00.25z", datetime(2030, 1, 31, 0, 0, 0, 250_000, tzinfo=UTC)),
        ("2030-01-31 00:00:00+01:00", datetime(2030, 1, 31, tzinfo=timezone(timedelta(hours=1)))),
    ],
)
def test_rfc_3339(text: str, moment: datetime) -> None:
    assert ADAPTER.validate_python(text) == moment


@pytest.mark.parametrize(
    "value", [2020, 1.5, "2020", "1577836800", "2030-01-31", "2030-01-31T00:00:00", "2030-01-31T00:00Z", "soon", None]
)
def test_anything_else_is_refused(value: Any) -> None:
    with pytest.raises(ValidationError, match="RFC 3339 text with a UTC offset"):
        ADAPTER.validate_python(value)
