"""The sets of tables: the current one, one that a rebuild builds beside it, and those that were kept of earlier ones.

A swap exchanges the current tables with those beside them and keeps or drops the old ones. It begins with a marker
that says all of that, so a process that starts after a crash finishes it.

Blocking: call it from a thread.
"""

import re
from itertools import zip_longest
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from keyforge.audit.application.ports import KeptTables
from keyforge.audit.errors import BesideLostError, SchemaDiffersError, StoreError
from keyforge.audit.outbound import schema
from keyforge.audit.outbound.clients import Clients
from keyforge.contracts.unreadable import UNREADABLE
from keyforge.runtime import logs

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

BESIDE: Final = "_beside"
"""After the names of the tables that a rebuild builds."""

_MARKER: Final = "rebuild_swap"
_ENGINES: Final = "SELECT name, engine FROM system.tables WHERE database = currentDatabase()"
_IS_DICTIONARY: Final = (
    "SELECT startsWith(create_table_query, 'CREATE DICTIONARY') FROM system.tables"
    " WHERE database = currentDatabase() AND name = {name:String}"
)
_ANY_SIZE: Final = "SETTINGS max_table_size_to_drop = 0"
"""A server drops no table of more than 50 GB without it; 0 is no bound (ClickHouse's reference of settings)."""
_SPELLED: Final = "SELECT arrayMap(query -> formatQuerySingleLine(query), {queries:Array(String)})"
_KEPT: Final = re.compile(rf"(?:{'|'.join(schema.TABLES)})_(before_[0-9TZ]+)")


class _Size(NamedTuple):
    """How large a table is."""

    rows: int
    bytes: int


class _Swap(msgspec.Struct, frozen=True):
    """A swap that has begun: by table the UUID of the new one, and after which name the old ones are kept, if so."""

    tables: dict[str, str]
    keep: str


class TableSets:
    """The sets of tables in one database."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._built: dict[str, str] = {}
        """By table the UUID of the one that was created last beside it."""
        self._views: dict[str, str] = {}
        """By view the statement that would create it, as the server gives it."""
        self._logger = logs.get("tables")

    def open(self) -> None:
        """Finish a swap that was interrupted, drop what a rebuild left unfinished, create what is missing.

        What is left and cannot be dropped is logged, and holds up nobody. Raises SchemaDiffersError if the tables are
        another version's; StoreError.
        """
        with self._clients.lend(database=False) as client:
            client.command(f"CREATE DATABASE IF NOT EXISTS {self._clients.database}")
        with self._clients.lend() as client:
            if (begun := self._begun(client)) is not None:
                _exchange(client, begun)
        self._drop_left()
        with self._clients.lend() as client:
            for statement in schema.create():
                client.command(statement)
            engines: dict[str, str] = {row[0]: row[1] for row in client.query(_ENGINES).result_rows}
            for table, expected in schema.DEFINITIONS.items():
                if (engine := engines.get(table, "")) not in schema.ENGINES[table]:
                    raise SchemaDiffersError(f"table {table} is of the engine {engine}, not of ours")
                found = [schema.Column(*row[:4]) for row in client.query(f"DESCRIBE TABLE {table}").result_rows]
                if found != expected and _spelled(client, found) != _spelled(client, expected):
                    raise SchemaDiffersError(
                        f"table {table} has other columns than this version writes: {_first_other(found, expected)}"
                    )
        self._create_views()

    def _create_views(self) -> None:
        """Create the views. One that cannot be created is left to `restore_views`: evidence does not wait for it."""
        self._views = dict.fromkeys(schema.CREATE_VIEWS, "")
        for name in schema.CREATE_VIEWS:
            try:
                self._create_view(name)
            except StoreError as fault:
                self._logger.warning("a view cannot be created; trying again", view=name, error=str(fault)[:500])

    def _create_view(self, name: str) -> None:
        with self._clients.lend() as client:
            client.command(schema.CREATE_VIEWS[name])
            self._views[name] = _definitions(client).get(name, "")

    def restore_views(self) -> list[str]:
        """Create those views again that are not what was created; return their names. Raises StoreError, of the first
        that cannot be created, when all others were."""
        with self._clients.lend() as client:
            found = _definitions(client)
        differing = [name for name, created in self._views.items() if not created or found.get(name) != created]
        restored: list[str] = []
        failed: StoreError | None = None
        for name in differing:
            try:
                self._create_view(name)
            except StoreError as fault:
                failed = failed or fault
            else:
                restored.append(name)
        if failed is not None:
            raise failed
        return restored

    def create_beside(self) -> None:
        """Create empty tables beside the current ones, and current ones that are gone. Raises StoreError."""
        self.drop_beside()
        with self._clients.lend() as client:
            for statement in (*schema.create(), *schema.create(BESIDE)):
                client.command(statement)
            found = _uuids(client)
            self._built = {table: found.get(table + BESIDE, "") for table in schema.TABLES}

    def check_beside(self) -> None:
        """Raise BesideLostError if the tables beside the current ones are not those that were created; StoreError."""
        with self._clients.lend() as client:
            found = _uuids(client)
        if any(found.get(table + BESIDE) != self._built.get(table) for table in schema.TABLES):
            raise BesideLostError

    def drop_beside(self) -> None:
        """Drop the tables beside the current ones. Raises StoreError."""
        with self._clients.lend() as client:
            for table in schema.TABLES:
                _drop(client, table + BESIDE)

    def drop_built(self) -> None:
        """Drop those tables beside the current ones that were created last, and no others. Raises StoreError."""
        with self._clients.lend() as client:
            found = _uuids(client)
            for table, uuid in self._built.items():
                if found.get(table + BESIDE) == uuid:
                    _drop(client, table + BESIDE)

    def swap(self, keep: str) -> None:
        """Make the tables beside the current ones. The old are kept as `<table>_<keep>`, or dropped if it is empty.

        May be called again after StoreError, which it raises: what was done although the answer was lost stays done.
        Raises BesideLostError if the tables beside are not those that were created.
        """
        with self._clients.lend() as client:
            begun = self._begun(client) is not None
            if not begun and self._swapped(client):
                return
        if not begun:
            self.check_beside()
            with self._clients.lend() as client:
                text = msgspec.json.encode(_Swap(self._built, keep)).decode()
                _drop(client, _MARKER)
                client.command(f"CREATE TABLE {_MARKER} (nothing UInt8) ENGINE = Memory COMMENT '{text}'")
        with self._clients.lend() as client:
            if (found := self._begun(client)) is not None:
                _exchange(client, found)
                for table in schema.TABLES:
                    _drop(client, table + BESIDE)
            _drop(client, _MARKER)
            if not self._swapped(client):  # it was another process's swap
                raise BesideLostError
        self._create_views()

    def kept(self) -> list[KeptTables]:
        """Return the sets that were kept, oldest first. Raises StoreError."""
        sizes: dict[str, _Size] = {}
        with self._clients.lend() as client:
            for table, found in _sizes(client).items():
                if match := _KEPT.fullmatch(table):
                    before = sizes.get(match[1], _Size(0, 0))
                    sizes[match[1]] = _Size(before.rows + found.rows, before.bytes + found.bytes)
        return [KeptTables(name, *size) for name, size in sorted(sizes.items())]

    def drop_kept(self, name: str) -> bool:
        """Drop a set that was kept; return whether there was one of this name. Raises StoreError."""
        if all(one.name != name for one in self.kept()):
            return False
        with self._clients.lend() as client:
            for table in schema.TABLES:
                _drop(client, f"{table}_{name}")
        return True

    def current_bytes(self) -> int:
        """Return how large the current tables are. Raises StoreError."""
        with self._clients.lend() as client:
            sizes = _sizes(client)
        return sum(sizes[table].bytes for table in schema.TABLES if table in sizes)

    def free_bytes(self) -> int:
        """Return how much room is left where tables are stored. Raises StoreError."""
        with self._clients.lend() as client:
            return int(client.query("SELECT min(unreserved_space) FROM system.disks").result_rows[0][0])

    def _swapped(self, client: "Client") -> bool:
        """Return whether the tables that were created beside the current ones are the current ones."""
        found = _uuids(client)
        return all(found.get(table) == self._built.get(table, "") for table in schema.TABLES)

    def _drop_left(self) -> None:
        """Drop what an interrupted rebuild left; what cannot be dropped now is tried again by the next one."""
        for name in (*(table + BESIDE for table in schema.TABLES), _MARKER):
            try:
                with self._clients.lend() as client:
                    _drop(client, name)
            except StoreError as error:
                self._logger.warning("what a rebuild left cannot be dropped", table=name, error=str(error)[:300])

    @staticmethod
    def _begun(client: "Client") -> _Swap | None:
        """Return the swap that the marker says has begun; None if there is no marker, or one that is not of these
        tables."""
        found = client.query(
            "SELECT comment FROM system.tables WHERE database = currentDatabase() AND name = {name:String}",
            {"name": _MARKER},
        ).result_rows
        if not found:
            return None
        try:
            begun = msgspec.json.decode(found[0][0], type=_Swap)
        except UNREADABLE:
            return None
        uuids = _uuids(client)
        both = {table: (uuids.get(table), uuids.get(table + BESIDE)) for table in schema.TABLES}
        known = begun.tables.keys() == both.keys() and all(begun.tables[table] in both[table] for table in both)
        kept = not begun.keep or _KEPT.fullmatch(f"{schema.RECORDS}_{begun.keep}") is not None
        return begun if known and kept else None


def _exchange(client: "Client", begun: _Swap) -> None:
    """Do what is left of a swap that has begun, but for dropping the old tables where they are not kept."""
    for table, uuid in begun.tables.items():
        found = _uuids(client)
        if table not in found:
            client.command(f"RENAME TABLE {table}{BESIDE} TO {table}")
        elif found[table] != uuid:
            client.command(f"EXCHANGE TABLES {table} AND {table}{BESIDE}")
    if begun.keep:
        for table in schema.TABLES:
            if table + BESIDE in _uuids(client):
                client.command(f"RENAME TABLE {table}{BESIDE} TO {table}_{begun.keep}")


def _drop(client: "Client", name: str) -> None:
    """Drop what has this name, if anything has, whatever it is and however large."""
    for (is_dictionary,) in client.query(_IS_DICTIONARY, {"name": name}).result_rows:
        client.command(f"DROP {'DICTIONARY' if is_dictionary else 'TABLE'} {name} SYNC {_ANY_SIZE}")


def _spelled(client: "Client", columns: list[schema.Column]) -> list[schema.Column]:
    """Return columns with their defaults as this server spells them: a table may be of an older one, or it newer."""
    queries = [f"SELECT {column.default or 1}" for column in columns]
    [(spelled,)] = client.query(_SPELLED, {"queries": queries}).result_rows
    return [column._replace(default=default) for column, default in zip(columns, spelled, strict=True)]


def _first_other(found: list[schema.Column], expected: list[schema.Column]) -> str:
    """Return how the first column that differs is, and how it must be."""
    either = zip_longest(found, expected)
    return next(f"{is_ or 'none'} in place of {of or 'none'}" for is_, of in either if is_ != of)


def _definitions(client: "Client") -> dict[str, str]:
    """Return by view the statement that would create it, types of its columns included: they convert what it shows."""
    rows = client.query(
        "SELECT name, create_table_query FROM system.tables WHERE database = currentDatabase()"
    ).result_rows
    return {name: definition for name, definition in rows if name in schema.CREATE_VIEWS}


def _sizes(client: "Client") -> dict[str, _Size]:
    """Return by table how large it is, of all tables."""
    rows = client.query(
        "SELECT name, coalesce(total_rows, 0), coalesce(total_bytes, 0) FROM system.tables"
        " WHERE database = currentDatabase()"
    ).result_rows
    return {row[0]: _Size(int(row[1]), int(row[2])) for row in rows}


def _uuids(client: "Client") -> dict[str, str]:
    rows = client.query("SELECT name, toString(uuid) FROM system.tables WHERE database = currentDatabase()").result_rows
    return {row[0]: row[1] for row in rows}
