"""The edge while its neighbours fail: owners away, answers lost, credentials that run dry, a stale directory."""

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
import pytest_asyncio

from keyforge.contracts import frame, subjects
from keyforge.contracts.events import RequestCancelled, RequestCompleted, TenantUpdated
from keyforge.contracts.frame import Recorded
from keyforge.contracts.ids import CredentialId, ProviderId
from keyforge.edge.application.provider_call import BODY_BYTES_MAX
from keyforge.edge.core.dialects.provider_error import MESSAGE_CHARS_MAX
from keyforge.edge.core.dialects.stream_bounds import TOKEN_BYTES_MAX
from keyforge.testkit.encrypted_names import encrypted
from keyforge.testkit.ticks import append_tick
from tests.integration.edge_facts import BY, MODEL, TENANT
from tests.integration.edge_stack import EdgeStack
from tests.pace import within

SLOW = '{"chunk_delay_s": 0.3, "completion_tokens": 100, "chunks": 100}'

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EdgeStack]:
    owner_s = "12"  # a budget that starts on a busy machine takes more than half of the default
    settings = {"KEYFORGE_ANSWER_TIME_LIMIT_S": "0.5", "KEYFORGE_OWNER_TIME_LIMIT_S": owner_s}
    async with EdgeStack(tmp_path_factory.mktemp("edge"), **settings) as running:
        yield running


async def test_a_lost_answer_costs_nothing(stack: EdgeStack) -> None:
    key = await stack.key()
    assert (await stack.chat(key)).status_code == 200
    before = (await stack.books())["requests"]
    os.kill(stack.processes["budget"].pid, signal.SIGSTOP)
    try:
        answer = await stack.chat(key)
    finally:
        os.kill(stack.processes["budget"].pid, signal.SIGCONT)
    assert answer.status_code == 503
    assert answer.json()["error"]["type"] == "owner_unavailable"
    assert "x-should-retry" not in answer.headers
    cancelled = await stack.ending(answer.headers["x-request-id"])
    assert isinstance(cancelled, RequestCancelled)
    assert (await stack.books())["requests"] == before
    await stack.until(lambda: stack.chat(key), lambda answer: answer.status_code == 200)


async def test_a_request_waits_for_the_next_owner(stack: EdgeStack) -> None:
    key = await stack.key()
    assert stack.stop("budget") == 0
    asked = asyncio.create_task(stack.chat(key))
    await asyncio.sleep(0.3)  # the request finds nobody
    stack.start_budget()
    answer = await asked
    assert answer.status_code == 200, answer.text
    assert isinstance(await stack.ending(answer.headers["x-request-id"]), RequestCompleted)


async def test_a_key_that_the_directory_lacks_is_known_from_the_log(stack: EdgeStack) -> None:
    key = await stack.key(projected=False)
    answer = await stack.until(lambda: stack.chat(key), lambda answer: answer.status_code != 401)
    assert answer.status_code == 200, answer.text


async def test_a_new_policy_counts_at_once(stack: EdgeStack) -> None:
    """Budget knows it before the directory does: the edge judges again, by what the log holds."""
    key = await stack.key()
    assert (await stack.chat(key)).status_code == 200
    await stack.update(key, models=("something-else",), revision=2)
    answer = await stack.until(lambda: stack.chat(key), lambda answer: answer.status_code != 200)
    assert answer.json()["error"]["type"] == "model_forbidden"
    await stack.update(key, models=None, revision=3)
    await stack.until(lambda: stack.chat(key), lambda answer: answer.status_code == 200)


async def test_a_429_is_answered_by_another_quota_group(stack: EdgeStack) -> None:
    provider = ProviderId("pooled")
    for name, group in (("a1", "a"), ("a2", "a"), ("b1", "b")):
        await stack.credential(provider, CredentialId(f"pool-{name}"), f"fixture-pool-{name}", group=group)
    await stack.provider(provider, ["pooled-model"])
    key = await stack.key()
    for name in ("a1", "a2"):
        await stack.script(
            model="pooled-model", credential=f"fixture-pool-{name}", behaviour={"status": 429, "retry_after": "30"}
        )
    answer = await stack.until(lambda: stack.chat(key, model="pooled-model"), lambda answer: answer.status_code != 404)
    answers = [answer, *[await stack.chat(key, model="pooled-model") for _ in range(4)]]
    assert [one.status_code for one in answers] == [200] * 5
    tried = [
        [(attempt.credential, attempt.status) for attempt in (await stack.ending(one.headers["x-request-id"])).attempts]
        for one in answers
    ]
    limited = [attempts for attempts in tried if len(attempts) == 2]
    assert len(limited) <= 1, "a group cools down for as long as its provider asked"
    assert all(attempts[-1] == ("pool-b1", 200) for attempts in tried)

    until = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    await stack.script(
        model="pooled-model", credential="fixture-pool-b1", behaviour={"status": 429, "retry_after": until}
    )
    answer = await stack.chat(key, model="pooled-model")
    assert answer.status_code == 429
    assert answer.json()["error"]["type"] == "upstream_rate_limited"
    assert 15 <= int(answer.headers["retry-after"]) <= 21
    completed = await stack.ending(answer.headers["x-request-id"])
    assert (completed.usage.tokens, completed.usage_source) == (0, "none")
    books = (await stack.books())["requests"]
    assert (await stack.chat(key, model="pooled-model")).status_code == 429
    assert (await stack.books())["requests"] == books


@pytest.mark.parametrize(
    ("name", "status", "body", "others"),
    [
        ("busy", 429, "Rate limit reached for requests", {"busy-model": 429, "busy-other": 200}),
        ("large", 429, "Request too large for gpt-4o: Limit 30000, Requested 99999", {"large-model": 200}),
        ("poorer", 402, "You requested up to 9000 tokens, but can only afford 1234", {"poorer-model": 200}),
        ("poor", 402, "You requested up to 9000 tokens, but can only afford 0", {"poor-other": 429}),
    ],
)
async def test_one_key_limited_holds_up_no_more_than_what_was_limited(
    stack: EdgeStack, name: str, status: int, body: str, others: dict[str, int]
) -> None:
    provider, model = ProviderId(name), f"{name}-model"
    await stack.credential(provider, CredentialId(name), f"fixture-{name}")
    await stack.provider(provider, [model, f"{name}-other"])
    await stack.knows(f"{name}-other")
    await stack.script(model=model, times=1, behaviour={"status": status, "body": body})
    answer = await stack.chat(await stack.key(), model=model)
    if name == "busy":
        assert (answer.status_code, answer.json()["error"]["type"]) == (429, "upstream_rate_limited")
    else:  # what the agent can mend, or its operator, is told in the provider's words, and trying again mends nothing
        assert (answer.status_code, answer.json()["error"]["type"]) == (status, "upstream_error")
        assert answer.json()["error"]["message"] == body
        assert answer.headers["x-should-retry"] == "false"
    another = await stack.key()
    assert {asked: (await stack.chat(another, model=asked)).status_code for asked in others} == others


async def test_a_provider_that_nobody_listens_for_costs_nothing(stack: EdgeStack) -> None:
    provider = ProviderId("nobody")
    url = "http://127.0.0.1:1"
    await stack.credential(provider, CredentialId("nobody-one"), "fixture-nobody", url=url)
    await stack.provider(provider, ["nobody-model"], url=url)
    key = await stack.key()
    answer = await stack.until(
        lambda: stack.chat(key, model="nobody-model"), lambda answer: answer.status_code not in {404, 503}
    )
    assert (answer.status_code, answer.json()["error"]["type"]) == (502, "upstream_refused")
    cancelled = await stack.ending(answer.headers["x-request-id"])
    assert isinstance(cancelled, RequestCancelled)
    assert cancelled.reason == "upstream_refused"


async def test_a_stream_is_not_held_and_what_is_held_is_bounded(stack: EdgeStack) -> None:
    provider, model, key = ProviderId("long"), "long-model", await stack.key()
    await stack.credential(provider, CredentialId("long-one"), "fixture-long")
    await stack.provider(provider, [model])
    await stack.knows(model)
    chunks, content = 100, "x" * 200_000
    assert len(content) * chunks > BODY_BYTES_MAX
    behaviour = {"chunks": chunks, "completion_tokens": chunks, "content": content}
    await stack.script(model=model, times=1, behaviour=behaviour)
    async with stack.streamed(key, model=model, max_tokens=BODY_BYTES_MAX // TOKEN_BYTES_MAX * 2) as answer:
        body = await answer.aread()
    assert len(body) > BODY_BYTES_MAX
    assert body.endswith(b"data: [DONE]\n\n")
    assert (await stack.ending(answer.headers["x-request-id"])).outcome == "ok"
    for status, type_ in ((400, "upstream_error"), (429, "upstream_rate_limited")):
        await stack.script(model=model, times=1, behaviour={"status": status, "body": "x" * (BODY_BYTES_MAX + 1)})
        async with stack.streamed(key, model=model) as answer:
            body = await answer.aread()
        assert (answer.status_code, json.loads(body)["error"]["type"]) == (status, type_)
        assert len(body) < 2 * MESSAGE_CHARS_MAX  # the beginning of its words
        completed = await stack.ending(answer.headers["x-request-id"])
        assert (completed.outcome, completed.usage_source) == (type_, "none")


async def test_every_outcome_is_stored_before_the_edge_ends(stack: EdgeStack) -> None:
    key = await stack.key()
    answers = await asyncio.gather(*[stack.chat(key) for _ in range(30)])
    assert stack.stop("edge") == 0
    for answer in answers:
        assert isinstance((await stack.events(answer.headers["x-request-id"]))[-1], RequestCompleted)
    stack.start_edge()
    await stack.ready()
    assert (await stack.chat(key, model=MODEL)).status_code == 200


async def test_nothing_is_asked_of_a_log_that_is_full_or_away(stack: EdgeStack) -> None:
    """Outcomes wait while the log is away; new requests are refused, and the outcomes are stored at last."""
    key = await stack.key()
    assert (await stack.chat(key)).status_code == 200
    await asyncio.to_thread(stack.node.stop)
    answer = await stack.until(lambda: stack.chat(key), lambda answer: answer.status_code == 503)
    assert answer.json()["error"]["type"] in {"owner_unavailable", "log_unavailable"}
    await asyncio.to_thread(stack.node.start)
    answer = await stack.until(lambda: stack.chat(key), lambda answer: answer.status_code == 200)
    assert isinstance(await stack.ending(answer.headers["x-request-id"]), RequestCompleted)
    assert await stack.log.end(subjects.log_stream(0)) > 0


async def test_a_suspended_tenants_stream_is_cut(stack: EdgeStack) -> None:
    key = await stack.key()
    async with stack.streamed(key, metadata={"sim": SLOW}) as answer:
        lines = answer.aiter_lines()
        await anext(lines)
        await stack.suspend()
        rest = [line async for line in lines]
    await stack.suspend(lift=True)
    assert any('"tenant_suspended"' in line for line in rest), rest
    assert (await stack.ending(answer.headers["x-request-id"])).outcome == "tenant_suspended"


async def test_an_edge_cut_off_from_the_log_ends_its_streams(stack: EdgeStack) -> None:
    key = await stack.key()
    async with stack.streamed(key, metadata={"sim": SLOW}) as answer:
        lines = answer.aiter_lines()
        await anext(lines)
        began = time.monotonic()
        await asyncio.to_thread(stack.node.stop)
        rest = [line async for line in lines]
    assert within(time.monotonic() - began, 3.0)
    assert any('"log_unavailable"' in line for line in rest), rest
    await asyncio.to_thread(stack.node.start)
    await stack.until(lambda: stack.chat(key), lambda answer: answer.status_code == 200)
    completed = await stack.ending(answer.headers["x-request-id"])
    assert (completed.outcome, completed.usage) == ("log_unavailable", None)
    await stack.until(lambda: stack.edge.get("/readyz"), lambda answer: answer.status_code == 200)


async def test_an_event_that_cannot_be_read_cuts_its_partition_off(stack: EdgeStack) -> None:
    """The last one here: nobody serves partition 1 afterwards."""
    event = TenantUpdated(
        tenant=TENANT, name=encrypted("x"), plan="", status="active", limits=(), revision=9, secret_version=1, by=BY
    )
    known = frame.encode([Recorded("x", "keys", datetime.now(UTC), event)])
    await append_tick(stack.log, 1, known.replace(b"tenant.updated.v1", b"tenant.updated.v9"))
    answer = await stack.until(lambda: stack.edge.get("/readyz"), lambda answer: answer.status_code == 503)
    assert answer.json()["checks"]["control_feed"] is False
    cut_off = "keyforge_edge_partitions_cut_off 1.0"  # 2.0 while the node that was stopped before is not heard again
    metrics = await stack.until(lambda: stack.edge.get("/metrics"), lambda answer: cut_off in answer.text)
    assert "keyforge_edge_control_events_unread_total 1.0" in metrics.text
    assert "keyforge.tenant.updated.v9" in stack.output("edge")
    async with stack.streamed(await stack.key()) as answer:
        assert (await answer.aread()).endswith(b"data: [DONE]\n\n"), "other partitions go on"
