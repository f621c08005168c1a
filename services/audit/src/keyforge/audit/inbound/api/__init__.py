"""The operators' API of audit: records of a chain, its verification, spend, rebuild."""

from fastapi import Depends, FastAPI, Request, Response

from keyforge.audit.application.chains import Chains
from keyforge.audit.application.projection import Projection
from keyforge.audit.application.spending import Spending
from keyforge.audit.errors import StoreError
from keyforge.audit.inbound.api import rebuild, records, spend
from keyforge.contracts.errors import problem
from keyforge.eventlog.log import EventLogError
from keyforge.runtime.http import OperatorOf, respond


def add_routes(
    app: FastAPI, chains: Chains, spending: Spending, projection: Projection, *, reader: OperatorOf, admin: OperatorOf
) -> None:
    """Add the routes. `reader` and `admin` are the dependencies that admit an operator."""

    async def on_store_error(_request: Request, _error: Exception) -> Response:
        return respond(problem("store_unavailable"))

    async def on_log_error(_request: Request, _error: Exception) -> Response:
        return respond(problem("log_unavailable", "The event log cannot be read right now."))

    app.add_exception_handler(StoreError, on_store_error)
    app.add_exception_handler(EventLogError, on_log_error)
    app.include_router(records.routes(chains), dependencies=[Depends(reader)])
    app.include_router(spend.routes(spending), dependencies=[Depends(reader)])
    app.include_router(rebuild.routes(projection, admin), dependencies=[Depends(reader)])
