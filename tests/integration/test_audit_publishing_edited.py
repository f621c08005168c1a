"""What is published from a store that was edited: genuine records alone, none that only a column hides."""

import threading
from functools import partial
from typing import Any

import msgspec
import pytest

from keyforge.audit.application.projection import Projection
from keyforge.audit.core.evidence import AuthenticityCheck
from keyforge.audit.outbound import stored_tail
from keyforge.audit.outbound import tenant_rows as tenant_rows_module
from keyforge.audit.outbound.publish_position import NotAdvancedError, Published, PublishPosition
from keyforge.eventlog.log import Message
from keyforge.eventlog.memory import MemoryLog
from keyforge.testkit.nats_client import until
from tests.integration.audit_attacks import delete, edit, seldom, update
from tests.integration.audit_engine import append, log_of, new_database, projecting, store_on
from tests.integration.audit_publishing import CHAIN, POSITION, POSITION_0, is_at, pair, published, publishing, withheld
from tests.integration.test_audit_projection import caught_up, rebuilt
from tests.unit import audit_facts as facts


async def test_a_record_that_was_altered_in_the_store_is_not_published_from_there() -> None:
    """A body, a MAC, a record of another key under this one's name: after a start they would go out as evidence."""
    log, database = await log_of(facts.begun(), *pair(1), *pair(2)), new_database()
    async with projecting(log, store_on(database)) as projection:
        await caught_up(projection, log)
    store = store_on(database)
    own = f"chain = '{CHAIN}' AND seq"
    edit(
        store,
        update("records", "body = replaceOne(body, 'acme', 'evil')", f"{own} = 2"),
        update("records", "mac = reverse(mac)", f"{own} = 3"),
    )
    async with publishing(log, store) as projection:

        async def found() -> bool:
            return {1, 4, 5} <= set(await published(log))

        await until(found)
        assert set(await published(log)) == {1, 4, 5}
        assert withheld(projection) == 2


@pytest.mark.parametrize(
    ("change", "missed"),
    seldom(
        [
            pytest.param("UPDATE tenant = ''", 0, id="no tenant"),
            pytest.param("UPDATE tenant = 'globex'", 0, id="another tenant"),
            pytest.param("UPDATE partition = 7", 0, id="another log"),
            pytest.param("UPDATE sequence = 0", 0, id="an earlier message"),
            pytest.param("UPDATE sequence = 900", 0, id="a later message"),
            pytest.param("UPDATE frame_index = 9", 0, id="another event"),
            pytest.param("UPDATE seq = 3", 0, id="another seq"),
            pytest.param("DELETE", 1, id="removed"),
        ],
        but=("another log", "an earlier message", "removed"),
    ),
)
async def test_columns_that_are_altered_hide_nothing_and_what_is_missing_is_counted(change: str, missed: int) -> None:
    log, database = await log_of(facts.begun(), *pair(1), *pair(2)), new_database()
    async with projecting(log, store_on(database)) as projection:
        await caught_up(projection, log)
    store, second = store_on(database), f"chain = '{CHAIN}' AND seq = 2"
    if "seq = 3" in change:  # a column of the table's order cannot be altered: the row is written again
        columns = "chain, tenant, key_id, header, hash, mac, body"
        edit(
            store,
            f"INSERT INTO records (seq, {columns}) SELECT 9, {columns} FROM records WHERE {second}",
            delete("records", second),
        )
    else:
        edit(store, f"ALTER TABLE records {change} WHERE {second} SETTINGS mutations_sync = 2")
    async with publishing(log, store) as projection:
        await until(lambda: is_at(log, 5))
        assert await published(log) == [seq for seq in range(1, 6) if not missed or seq != 2]
        assert withheld(projection) == missed


OTHER = "Key000000002"


@pytest.mark.parametrize(
    ("hidden", "count"),
    seldom(
        [
            pytest.param("seq = 7", 1, id="the last one of its chain"),
            pytest.param("seq = 4", 1, id="the first one that was not published"),
            pytest.param("seq > 3", 4, id="all that were not published"),
        ],
        but=("the last one of its chain", "the first one that was not published"),
    ),
)
async def test_a_record_of_which_nothing_says_where_it_is_is_counted(hidden: str, count: int) -> None:
    """Neither its header nor a column says which message it is of, and what follows in the log is another key's."""
    log, database = await published_in_part()
    hide(database, hidden)
    async with publishing(log, store_on(database)) as projection:
        await until(partial(counts, projection, count))
        await append(log, pair(4))
        await until(lambda: is_at(log, 12))
        assert withheld(projection) == count, "once"
        assert len(await published(log)) == 9 - count


async def published_in_part() -> tuple[MemoryLog, str]:
    """A log whose first four messages are published, and the database where all ten are stored."""
    log, database = await log_of(facts.begun(), facts.ctl(facts.key_created(OTHER)), *pair(1)), new_database()
    async with publishing(log, store_on(database)):
        await until(lambda: is_at(log, 4))
    later = [facts.adm(facts.admitted(50, key_id=OTHER)), facts.use(facts.completed(50, key_id=OTHER))]
    await append(log, [*pair(2), *pair(3), *later])
    async with projecting(log, store_on(database)) as projection:
        await caught_up(projection, log)
    return log, database


def hide(database: str, which: str) -> None:
    hide_all(database, f"chain = '{CHAIN}' AND {which}")


def hide_all(database: str, which: str) -> None:
    store = store_on(database)
    edit(store, update("records", "header = reverse(header), sequence = 0, partition = 77", which))
    store.close()


async def counts(projection: Projection, count: int) -> bool:
    return withheld(projection) == count


async def test_what_is_missing_is_counted_by_each_start_until_a_rebuild_has_it_published() -> None:
    log, database = await published_in_part()
    hide(database, "seq >= 6")
    hide_all(database, "sequence >= 9")  # the other key's, the last of the log
    for _ in range(2):
        async with publishing(log, store_on(database)) as projection:
            await until(partial(counts, projection, 4))
    async with publishing(log, store_on(database)) as projection:
        await until(partial(counts, projection, 4))
        await rebuilt(projection)
        await until(lambda: balanced(log, projection, 10))
        assert await published(log) == [1, 2, 3, 4, 5, 6, 7]
    await append(log, [*pair(4), *pair(5)])
    async with projecting(log, store_on(database)) as projection:
        await caught_up(projection, log)
    hide(database, "seq >= 8")
    async with publishing(log, store_on(database)) as projection:
        await until(partial(counts, projection, 4))


async def test_rows_that_are_withheld_hide_none_that_is_missing() -> None:
    """Also where both are after the position, and are read again by a later start."""
    log, database = await published_in_part()
    store = store_on(database)
    edit(store, update("records", "body = concat(body, ' ')", "sequence >= 9"))
    store.close()
    hide(database, "seq = 7")
    async with publishing(log, store_on(database)) as projection:
        await until(partial(counts, projection, 3))
    await append(log, pair(4))
    async with projecting(log, store_on(database)) as projection:
        await caught_up(projection, log)
    hide(database, "seq = 9")
    async with publishing(log, store_on(database)) as projection:
        await until(partial(counts, projection, 4))


@pytest.mark.parametrize("refusals", [0, 3])
async def test_subscribers_are_served_again_once_the_position_is_stored(
    refusals: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without another record: nothing else would say so."""
    log, database = await published_in_part()
    left, advance = refusals, PublishPosition.advance

    async def refusing(self: PublishPosition, partition: int, ours: Published) -> Published:
        nonlocal left
        if left:
            left -= 1
            raise NotAdvancedError("the bucket takes nothing now")
        return await advance(self, partition, ours)

    monkeypatch.setattr(PublishPosition, "advance", refusing)
    async with publishing(log, store_on(database)) as projection:
        await until(lambda: is_at(log, 10))
        await until(partial(served, projection))


async def served(projection: Projection) -> bool:
    return not projection.publish_failure


async def balanced(log: MemoryLog, projection: Projection, upto: int) -> bool:
    """Whether the fold and the position are at a message, and the position counts as many records as the fold made."""
    entry = msgspec.json.decode((await last_entry(log)).data)
    followed = [] if projection.build is None else [one for one in projection.build.followed if one.partition == 0]
    return [(one.folded, one.tenants_records) for one in followed] == [(upto, entry["records"])]


async def last_entry(log: MemoryLog) -> Message:
    entry = await log.last(POSITION, POSITION_0)
    assert entry is not None
    return entry


async def test_of_an_entry_that_counts_no_records_everything_is_published_again() -> None:
    """So nothing that was hidden before it was written is passed over."""
    log, database = await published_in_part()
    entry = msgspec.json.decode((await last_entry(log)).data)
    del entry["records"]
    await log.append(POSITION_0, msgspec.json.encode(entry))
    hide(database, "seq = 2")
    async with publishing(log, store_on(database)) as projection:
        await until(lambda: is_at(log, 10))
        await until(partial(counts, projection, 1))
        assert await published(log) == [1, 2, 3, 1, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("by_header", [False, True], ids=["by columns", "by header"])
async def test_a_flood_of_made_up_rows_at_one_message_is_read_in_parts(
    by_header: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_tail, "PAGE_RECORDS", 10)
    log, database = await log_of(facts.begun(), *pair(1), *pair(2)), new_database()
    async with projecting(log, store_on(database)) as projection:
        await caught_up(projection, log)
    store = store_on(database)
    edit(
        store,
        "INSERT INTO records (chain, tenant, key_id, header, hash, mac, body)"
        " SELECT chain, tenant, key_id, header, hash, mac, concat(body, toString(number))"
        " FROM records CROSS JOIN numbers(300) AS n"
        f" WHERE chain = '{CHAIN}' AND seq = 3",
        *([update("records", "partition = 7", f"chain = '{CHAIN}' AND seq = 2")] if by_header else []),
    )
    longest, checking = 0, set[bool]()
    real = tenant_rows_module._rows

    def rows_of(*args: Any, **kwargs: Any) -> Any:
        nonlocal longest
        found = real(*args, **kwargs)
        longest = max(longest, len(found))
        return found

    is_authentic = AuthenticityCheck.is_authentic

    def noted(*args: Any) -> bool:
        checking.add(threading.current_thread() is threading.main_thread())
        return is_authentic(*args)

    monkeypatch.setattr(AuthenticityCheck, "is_authentic", noted)
    monkeypatch.setattr(tenant_rows_module, "_rows", rows_of)
    async with publishing(log, store) as projection:
        await until(lambda: is_at(log, 5))
        assert await published(log) == [1, 2, 3, 4, 5]
        assert withheld(projection) == 300
    assert checking == {False}, "the event loop serves others meanwhile"
    assert longest <= tenant_rows_module.FLOOD * 10
