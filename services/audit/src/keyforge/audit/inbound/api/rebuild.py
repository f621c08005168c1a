"""Routes of the rebuild: begin it, see how it fares."""

from typing import Literal

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel

from keyforge.audit.application.projection import Projection
from keyforge.audit.application.rebuild import Rebuild
from keyforge.runtime.http import OperatorOf


class RebuildOut(BaseModel):
    """How the last rebuild fared."""

    state: Literal["none", "running", "done", "failed"]
    folded: int
    messages: int
    records: int
    identical: bool | None
    differences: list[str]
    error: str


def routes(projection: Projection, admin: OperatorOf) -> APIRouter:
    """Return the routes. `admin` is the dependency that lets in an operator who may change something."""
    router = APIRouter(prefix="/v1", tags=["rebuild"])

    @router.get("/rebuild")
    async def progress() -> RebuildOut:
        return _out(projection.rebuilding)

    @router.post("/rebuild", status_code=202, dependencies=[Depends(admin)])
    async def rebuild(response: Response) -> RebuildOut:
        """Throw the tables away and fold the logs again; goes on in the background."""
        if not await projection.rebuild():
            response.status_code = 200
        return _out(projection.rebuilding)

    return router


def _out(rebuild: Rebuild) -> RebuildOut:
    return RebuildOut(
        state=rebuild.state,
        folded=rebuild.folded,
        messages=rebuild.messages,
        records=rebuild.records,
        identical=rebuild.identical,
        differences=rebuild.differences,
        error=rebuild.error,
    )
