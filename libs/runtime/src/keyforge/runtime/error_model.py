"""The error in every OpenAPI document: one schema, and with it the 4xx and 5xx response of every operation."""

from typing import Any, Final

from pydantic import BaseModel, Field


class ErrorDetail(BaseModel):
    """What went wrong."""

    code: int = Field(description="The HTTP status.", examples=[404])
    type: str = Field(description="Stable, for programs.", examples=["not_found"])
    message: str = Field(description="For people; its text may change.", examples=["Not found."])
    param: str | None = Field(description="The field that is wrong, where one is.")
    metadata: dict[str, Any] = Field(description="Particulars of this type of error.")


class ErrorResponse(BaseModel):
    """Every error has this shape."""

    error: ErrorDetail


ERROR_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    "4XX": {"model": ErrorResponse, "description": "The request is refused."},
    "5XX": {"model": ErrorResponse, "description": "The service, or something that it needs, is unavailable."},
}
"""For `FastAPI(responses=...)`. With them, FastAPI adds no response of its own (422) for requests that do not validate:
those are answered with 400 and `request_invalid`."""
