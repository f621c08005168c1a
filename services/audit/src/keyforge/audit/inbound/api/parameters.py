"""Query parameters that several routes take."""

from typing import Annotated, Final

from fastapi import Query

WAIT_S: Final = 5.0
"""Chosen: five times the default linger of an INSERT, which is 1 s."""
WAIT_S_MAX: Final = 30.0
"""Chosen: below the 60 s after which proxies such as nginx give up on a request by default."""

Wait = Annotated[
    float,
    Query(
        ge=0,
        le=WAIT_S_MAX,
        allow_inf_nan=False,
        description="Seconds to wait at most until the answer holds all that the log holds now.",
    ),
]
