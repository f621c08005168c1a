"""Audit's position in KF_AUDIT: what is published is not published again, and nothing is skipped."""

from typing import Any

import msgspec
import pytest

from keyforge.contracts import subjects
from keyforge.testkit.nats_client import until
from tests.integration.audit_engine import append, log_of, new_database, store_on
from tests.integration.audit_publishing import (
    POSITION,
    POSITION_0,
    TENANT_CHAIN,
    has,
    is_at,
    messages,
    pair,
    published,
    publishing,
    withheld,
)
from tests.unit import audit_facts as facts


async def test_what_grew_too_old_is_not_published_again() -> None:
    log, database = await log_of(facts.begun(), *pair(1)), new_database()
    async with publishing(log, store_on(database)):
        await until(lambda: is_at(log, 3))
    log.trim(subjects.AUDIT_STREAM, await log.end(subjects.AUDIT_STREAM))
    await append(log, pair(2))
    async with publishing(log, store_on(database)):
        await until(lambda: is_at(log, 5))
    assert await published(log) == [4, 5]


async def test_a_rebuild_publishes_nothing_again() -> None:
    log = await log_of(facts.begun(), *pair(1), *pair(2))
    async with publishing(log, store_on(new_database())) as projection:
        await until(lambda: is_at(log, 5))
        before = await messages(log)
        await append(log, pair(3))
        await until(lambda: is_at(log, 7))
        assert await projection.rebuild() is None

        async def rebuilt() -> bool:
            return projection.rebuilding.state == "done"

        await until(rebuilt)
        await append(log, pair(4))
        await until(lambda: is_at(log, 9))
        assert withheld(projection) == 0
    assert (await messages(log))[: len(before)] == before
    assert await published(log) == list(range(1, 10))


def _entry(**changed: Any) -> bytes:
    return msgspec.json.encode({"log": "memory-1", "sequence": 3, "stream": "memory-3", "records": 5} | changed)


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(None, id="lost"),
        pytest.param(b"", id="deleted"),
        pytest.param(b"no json", id="unreadable"),
        pytest.param(_entry(log="memory-0"), id="of another log"),
        pytest.param(_entry(stream="memory-0"), id="of another KF_AUDIT"),
        pytest.param(_entry(sequence=4), id="past the end of the log"),  # of a log that lost its end
        pytest.param(_entry(sequence=-1), id="before the beginning"),
    ],
)
async def test_a_position_that_cannot_count_is_the_beginning(entry: bytes | None) -> None:
    log, database = await log_of(facts.begun(), *pair(1)), new_database()
    async with publishing(log, store_on(database)):
        await until(lambda: is_at(log, 3))
    kept = await log.last(POSITION, POSITION_0)
    assert kept is not None
    assert kept.data == _entry(), "what the other cases differ from"
    log.declare(POSITION, [subjects.bucket_subject(subjects.AUDIT_POSITION_BUCKET, ">")])
    if entry is not None:
        await log.append(POSITION_0, entry)
    async with publishing(log, store_on(database)):
        await until(lambda: is_at(log, 3))
        await append(log, pair(2))
        await until(lambda: is_at(log, 5))
    assert await published(log) == [1, 2, 3, 1, 2, 3, 4, 5]
    assert await published(log, TENANT_CHAIN) == [1, 2, 1, 2]


@pytest.mark.parametrize("sequence", [10**15, -1])
async def test_a_position_that_no_log_has_is_written_over_while_audit_runs(sequence: int) -> None:
    log = await log_of(facts.begun(), *pair(1))
    async with publishing(log, store_on(new_database())) as projection:
        await until(lambda: is_at(log, 3))
        await log.append(POSITION_0, _entry(sequence=sequence))
        for number in (2, 3):
            await append(log, pair(number))
            await until(lambda wanted=1 + 2 * number: is_at(log, wanted))  # type: ignore[misc]
        assert await published(log) == list(range(1, 8))
        assert projection.publish_failure == ""


async def test_another_stream_of_the_name_is_given_everything() -> None:
    log = await log_of(facts.begun(), *pair(1))
    async with publishing(log, store_on(new_database())):
        await until(lambda: is_at(log, 3))
        log.declare(subjects.AUDIT_STREAM, [subjects.AUDIT_ALL])
        await until(lambda: has(log, 3))
        await append(log, pair(2))
        await until(lambda: has(log, 5))


async def test_two_audits_leave_nothing_out_and_never_move_the_position_back() -> None:
    log = await log_of(facts.begun())
    async with publishing(log, store_on(new_database())) as one, publishing(log, store_on(new_database())) as other:
        for number in range(20):
            await append(log, pair(number))
            await until(lambda wanted=3 + 2 * number: is_at(log, wanted))  # type: ignore[misc]
        assert (withheld(one), withheld(other)) == (0, 0)
    assert await has(log, 41)
    written = [msgspec.json.decode(one.data)["sequence"] for one in log._streams[POSITION].messages]
    assert written == sorted(written)
