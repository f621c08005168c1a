"""Routes of the rebuild: start it, read its progress, drop what was kept."""

from typing import Literal

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel

from keyforge.audit.application.ports import KeptTables
from keyforge.audit.application.projection import Projection
from keyforge.audit.application.rebuild_progress import RebuildProgress
from keyforge.audit.inbound.api.answers import DisagreementResponse, disagreement_response
from keyforge.runtime.http import OperatorOf, fail


class KeptTablesResponse(BaseModel):
    """Tables that an earlier rebuild kept because they differed: `<table>_<name>`, with rows and bytes of both."""

    name: str
    rows: int
    bytes: int


class RebuildResponse(BaseModel):
    """Progress or result of the last rebuild. `kept_as`: under which name it kept the tables of before, if it did.

    `kept`: all sets of tables that rebuilds kept, oldest first.
    """

    state: Literal["none", "running", "done", "failed"]
    folded: int
    messages: int
    records: int
    identical: bool | None
    differences: list[DisagreementResponse]
    kept_as: str | None
    kept: list[KeptTablesResponse]
    error: str


def routes(projection: Projection, admin: OperatorOf) -> APIRouter:
    """Return the routes. `admin` is the dependency that admits operators with write access."""
    router = APIRouter(prefix="/v1", tags=["rebuild"])

    @router.get("/rebuild")
    async def progress() -> RebuildResponse:
        return _response(projection.rebuilding, await projection.kept())

    @router.post("/rebuild", status_code=202, dependencies=[Depends(admin)])
    async def rebuild(response: Response) -> RebuildResponse:
        """Fold the logs again beside the tables, compare, and exchange them, in the background."""
        if projection.rebuilding.running:
            response.status_code = 200
        refused = await projection.rebuild()
        if refused is not None:
            raise fail("rebuild_refused", refused.why, metadata={"kept": list(refused.kept)})
        return _response(projection.rebuilding, await projection.kept())

    @router.delete("/rebuild/kept/{name}", dependencies=[Depends(admin)])
    async def drop(name: str) -> RebuildResponse:
        """Drop tables that a rebuild kept."""
        if not await projection.drop_kept(name):
            raise fail("not_found", f"No tables are kept under the name `{name[:80]}`.", param="name")
        return _response(projection.rebuilding, await projection.kept())

    return router


def _response(rebuild: RebuildProgress, kept: list[KeptTables]) -> RebuildResponse:
    return RebuildResponse(
        state=rebuild.state,
        folded=rebuild.folded,
        messages=rebuild.messages,
        records=rebuild.records,
        identical=rebuild.identical,
        differences=[disagreement_response(found) for found in rebuild.differences],
        kept_as=rebuild.kept or None,
        kept=[KeptTablesResponse(name=one.name, rows=one.rows, bytes=one.bytes) for one in kept],
        error=rebuild.error,
    )
