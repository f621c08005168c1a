"""Routes of the rebuild: start it, read its progress."""

from typing import Literal

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel

from keyforge.audit.application.projection import Projection
from keyforge.audit.application.rebuild import Rebuild
from keyforge.runtime.http import OperatorOf


class RebuildResponse(BaseModel):
    """Progress or result of the last rebuild."""

    state: Literal["none", "running", "done", "failed"]
    folded: int
    messages: int
    records: int
    identical: bool | None
    differences: list[str]
    error: str


def routes(projection: Projection, admin: OperatorOf) -> APIRouter:
    """Return the routes. `admin` is the dependency that admits operators with write access."""
    router = APIRouter(prefix="/v1", tags=["rebuild"])

    @router.get("/rebuild")
    async def progress() -> RebuildResponse:
        return _response(projection.rebuilding)

    @router.post("/rebuild", status_code=202, dependencies=[Depends(admin)])
    async def rebuild(response: Response) -> RebuildResponse:
        """Drop the tables and fold the logs again, in the background."""
        if not await projection.rebuild():
            response.status_code = 200
        return _response(projection.rebuilding)

    return router


def _response(rebuild: Rebuild) -> RebuildResponse:
    return RebuildResponse(
        state=rebuild.state,
        folded=rebuild.folded,
        messages=rebuild.messages,
        records=rebuild.records,
        identical=rebuild.identical,
        differences=rebuild.differences,
        error=rebuild.error,
    )
