"""Commands over the APIs of `audit` and `budget`: spend, limits, records, verify, tail, rebuild."""

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Final

import typer

from keyforge.cli.errors import FailedError, RefusedError
from keyforge.cli.keys_api import segment
from keyforge.cli.options import AsJson, KeyArgument, Tenant, Url, key_id

RECORDS_PAGE: Final = 500
"""Records in one response; the API permits 1000."""
TAIL_POLL_S: Final = 0.5
REBUILD_POLL_S: Final = 0.25
"""Between two requests. Precedent: a delay of up to 1 s does not interrupt a person's thought (Nielsen, Response Times:
The 3 Important Limits). Chosen: a half and a quarter of that."""
REBUILD_WITHIN_S: Final = 24 * 3600.0
"""How long a rebuild is watched; it goes on without us. Chosen: audit folds an event in 27 us (docs/NEXT.md), so a day
folds three billion."""

_KEPT_TABLE: Final = re.compile("^(?:records|requests)_(?=before_)")
_DIFFERENCE_COLUMNS: Final = ("table", "log", "chain", "seq", "why")
_PROGRESS: Final = {"state": str, "folded": int, "messages": int}
_KEPT: Final = {"kept": list}
_NO_RECORD: Final = ("not_found", "not_stored_yet")
_RECORD_COLUMNS: Final = ("seq", "time", "type", "request_id", "amount_usd", "settled_usd", "reserved_usd", "hash")
_LIMIT_COLUMNS: Final = ("scope", "unit", "window", "cap", "settled", "reserved", "remaining", "window_end")


def spend(
    tenant: Annotated[str | None, typer.Option(help="Of this tenant; of all if omitted.")] = None,
    by: Annotated[str, typer.Option(help="Any of tenant, key, provider, model, endpoint, edge, hour, day.")] = "",
    since: Annotated[str | None, typer.Option("--from", help="RFC 3339 with a UTC offset.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="RFC 3339 with a UTC offset.")] = None,
    *,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Show what was spent, by the time of admission."""
    from keyforge.cli import show
    from keyforge.cli.api import connect

    with connect("audit", url) as audit:
        found = audit.get("/v1/spend", **{"tenant": tenant, "by": by or None, "from": since, "to": until})
    if as_json:
        show.as_json(found)
        return
    names = found["by"]
    rows = [{**row["group"], **row} for row in found["rows"]] if names else []
    if len(rows) != 1:
        rows.append({**({names[0]: "total"} if names else {}), **found["total"]})
    show.table(rows, (*names, "requests", "tokens", "settled_usd"))
    _warn_if_lagging(found["lag"])


def limits(tenant_id: Tenant, key_: KeyArgument, *, as_json: AsJson = False, url: Url = None) -> None:
    """Show what is used and what remains of the limits of a key and its tenant."""
    from keyforge.cli import show
    from keyforge.cli.api import connect

    with connect("budget", url) as budget:
        found = budget.get(f"{_key_path(tenant_id, key_)}/limits")
    if as_json:
        show.as_json(found)
    else:
        show.table(found["limits"], _LIMIT_COLUMNS)


def records(
    tenant_id: Tenant,
    key_: KeyArgument,
    after: Annotated[int, typer.Option(min=0, help="Only records after this sequence number.")] = 0,
    limit: Annotated[int, typer.Option(min=1)] = 100,
    *,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Show the sealed records of a key, in order."""
    from keyforge.cli import show
    from keyforge.cli.api import Api, connect

    def page(audit: Api, after_seq: int, left: int) -> Any:
        path = f"{_key_path(tenant_id, key_)}/records"
        return audit.get(path, after=after_seq, limit=min(left, RECORDS_PAGE))

    with connect("audit", url) as audit:
        found = page(audit, after, limit)
        whole = {**found, "records": list(found["records"])}
        while whole["next"] is not None and len(whole["records"]) < limit:
            found = page(audit, whole["next"], limit - len(whole["records"]))
            whole["records"] += found["records"]
            whole["next"] = found["next"]
    if as_json:
        show.as_json(whole)
    else:
        show.table([_short(record) for record in whole["records"]], _RECORD_COLUMNS)
        _warn_if_lagging(whole["lag"])


def verify(tenant_id: Tenant, key_: KeyArgument, *, as_json: AsJson = False, url: Url = None) -> None:
    """Read the chain of a key again and compute every hash; exit code 1 if it does not verify."""
    from keyforge.cli import show
    from keyforge.cli.api import VERIFY_TIMEOUT_S, connect

    with connect("audit", url, timeout_s=VERIFY_TIMEOUT_S) as audit:
        found = audit.get(f"{_key_path(tenant_id, key_)}/verify")
    if as_json:
        show.as_json(found)
    else:
        typer.echo(show.text(found["verdict"]))
    if not found["valid"]:
        raise FailedError(f"chain {found['chain']} does not verify: {found['why'] or found['verdict']}")
    if found["spend_agrees"] is False:
        raise FailedError(f"chain {found['chain']} verifies, but the stored spend of the key is not what it settled")


def tail(
    tenant_id: Tenant,
    key_: Annotated[
        str | None, typer.Argument(metavar="[KEY]", show_default=False, help="All keys if omitted.")
    ] = None,
    *,
    from_start: Annotated[bool, typer.Option("--from-start", help="Begin with the first record.")] = False,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Show sealed records as they arrive, until Ctrl-C. With --json, one record per line."""
    from keyforge.cli.api import connect

    shown: dict[str, int] = {}
    try:
        with connect("audit", url) as audit:
            first = True
            while True:
                if first and key_:
                    _refuse_unknown(audit, tenant_id, key_)
                for key in [key_] if key_ else _keys_of(tenant_id):
                    shown[key] = _tail_one(
                        audit, tenant_id, key, shown.get(key), skip=first and not from_start, as_json=as_json
                    )
                first = False
                time.sleep(TAIL_POLL_S)
    except KeyboardInterrupt:
        return


def rebuild(
    drop: Annotated[str | None, typer.Option(metavar="NAME", help="Only drop the tables kept under this name.")] = None,
    *,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Build audit's tables again from the log, compare them with the old ones, and put them in place.

    If they differ, each difference is named, the exit code is 1, and the old tables are kept
    until --drop with their name.
    """
    from keyforge.cli import show
    from keyforge.cli.api import connect

    if drop is not None:
        _drop_kept(drop, as_json=as_json, url=url)
        return
    with connect("audit", url) as audit:
        state = audit.post("/v1/rebuild", due=_PROGRESS)
        end = time.monotonic() + REBUILD_WITHIN_S
        with _progress(hidden=as_json) as update:
            while state["state"] == "running" and time.monotonic() < end:
                update(state["folded"], state["messages"])
                time.sleep(REBUILD_POLL_S)
                state = audit.get("/v1/rebuild")
            update(state["folded"], state["messages"])
    if as_json:
        show.as_json(state)
    if state["state"] != "done":
        raise FailedError(f"the rebuild did not finish: {state['state']} {state['error']}".rstrip())
    if state["identical"] is False:
        if not as_json:
            show.table(state["differences"], _DIFFERENCE_COLUMNS)
        raise FailedError(
            "what was stored differed from the log; it was built again, and the old tables are kept until"
            f" `keyforge rebuild --drop {state['kept_as']}`"
        )
    if not as_json:
        kept = show.text(state["kept_as"]) or "none"
        found = "no differences" if state["identical"] else f"not compared; kept before: {kept}"
        records, messages = show.text(state["records"]), show.text(state["messages"])
        typer.echo(f"rebuilt {records} records from {messages} messages of the log; {found}")


def _drop_kept(name: str, *, as_json: bool, url: str | None) -> None:
    """Drop tables that a rebuild kept. `name` may also be that of one of its tables."""
    from keyforge.cli import show
    from keyforge.cli.api import connect

    with connect("audit", url) as audit:
        left = audit.delete(f"/v1/rebuild/kept/{segment(_KEPT_TABLE.sub('', name))}", due=_KEPT)
    if as_json:
        show.as_json(left)
    else:
        typer.echo(f"dropped {name}; kept: {show.text([one['name'] for one in left['kept']]) or 'none'}")


def _warn_if_lagging(messages: int) -> None:
    if messages:
        typer.echo(f"{messages} messages of the log are not included yet", err=True)


def _tail_one(audit: Any, tenant: str, key: str, shown: int | None, *, skip: bool, as_json: bool) -> int:
    """Print the records of one key after `shown`; return the last sequence number. `skip`: print no existing ones."""
    from keyforge.cli import show

    path = f"{_key_path(tenant, key)}/records"
    try:
        found = audit.get(path, after=shown or 0, limit=1 if skip else RECORDS_PAGE, wait_s=0)
    except RefusedError as error:
        if error.type not in _NO_RECORD and (shown is None or error.type != "store_unavailable"):
            raise
        return shown or 0  # no record yet, or a rebuild that will restore what was shown
    if skip:
        return int(found["head_seq"])
    for record in found["records"]:
        if as_json:
            show.as_json({"tenant": tenant, "key": key, **record})
        else:
            short = _short(record)
            typer.echo("  ".join([show.text(key), *(show.text(short[name]) for name in _RECORD_COLUMNS)]))
    return int(found["records"][-1]["seq"]) if found["records"] else shown or 0


def _refuse_unknown(audit: Any, tenant: str, key: str) -> None:
    """Raise RefusedError for a key that the log does not know: its tail would wait without end."""
    try:
        audit.get(f"{_key_path(tenant, key)}/records", limit=1)
    except RefusedError as error:
        if error.type != "not_stored_yet":
            raise


def _keys_of(tenant: str) -> list[str]:
    from keyforge.cli.operators import keys_of

    return [str(key["id"]) for key in keys_of(tenant, None)]


def _key_path(tenant: str, key: str) -> str:
    return f"/v1/tenants/{segment(tenant)}/keys/{segment(key_id(key))}"


def _short(record: dict[str, Any]) -> dict[str, Any]:
    return {**record, "hash": str(record["hash"])[:16]}


@contextlib.contextmanager
def _progress(*, hidden: bool) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on a terminal; yield what updates it with (folded, messages)."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, disable=hidden or not console.is_terminal, transient=True) as bar:
        task = bar.add_task("folding the log", total=None)
        yield lambda folded, messages: bar.update(task, completed=folded, total=messages or None)
