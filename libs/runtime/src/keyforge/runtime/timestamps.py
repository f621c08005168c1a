"""Times that an operators' API takes: RFC 3339 text with a UTC offset, nothing else."""

import re
from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import AwareDatetime, BeforeValidator, Field

_RFC_3339: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


def _text(value: Any) -> Any:
    """Let only such text through: pydantic would read a number as seconds or as milliseconds, by its size."""
    if isinstance(value, datetime) or (isinstance(value, str) and _RFC_3339.fullmatch(value)):
        return value
    raise ValueError("timestamps must be RFC 3339 text with a UTC offset, such as 2030-01-31T00:00:00Z")


Timestamp = Annotated[AwareDatetime, BeforeValidator(_text), Field(strict=False)]
