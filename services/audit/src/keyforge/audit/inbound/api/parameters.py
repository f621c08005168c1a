"""Query parameters that several routes take."""

from typing import Annotated, Final

from fastapi import Query

WAIT_S: Final = 5.0
WAIT_S_MAX: Final = 30.0

Wait = Annotated[
    float,
    Query(
        ge=0,
        le=WAIT_S_MAX,
        allow_inf_nan=False,
        description="Seconds to wait at most until what the log holds at this moment is in the answer.",
    ),
]
