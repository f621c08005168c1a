"""The edge with real neighbours: requests that are answered, and what the log says of them."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from keyforge.contracts.events import RequestAdmitted, RequestCompleted
from tests.integration.edge_stack import EdgeStack


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EdgeStack]:
    folder: Path = tmp_path_factory.mktemp("edge")
    async with EdgeStack(folder) as running:
        yield running


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_chat_is_admitted_answered_and_settled(stack: EdgeStack) -> None:
    key = await stack.key()
    answer = await stack.chat(key, max_tokens=50)
    assert answer.status_code == 200, answer.text
    request_id = answer.headers["x-request-id"]
    assert answer.headers["request-id"] == request_id
    usage = answer.json()["usage"]
    completed = await stack.ending(request_id)
    assert isinstance(completed, RequestCompleted)
    assert completed.outcome == "ok"
    assert completed.usage.tokens == usage["total_tokens"]
    admitted = next(event for event in await stack.events(request_id) if isinstance(event, RequestAdmitted))
    assert admitted.reserved.tokens >= usage["total_tokens"]
