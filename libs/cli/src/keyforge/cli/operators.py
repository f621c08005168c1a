"""Commands over the API of `keys`: tenants and their keys."""

import sys
from typing import Annotated, Any, Final

import typer

from keyforge.cli.keys_api import create_shown_once, get, pages, post, segment, show_list, show_one
from keyforge.cli.options import AsJson, KeyArgument, Limits, Tenant, Url, key_id, limits

tenant = typer.Typer(no_args_is_help=True, help="Tenants: who pays.")
key = typer.Typer(no_args_is_help=True, help="Virtual keys: what agents show us.")

_TENANT_COLUMNS: Final = ("id", "name", "status", "plan", "limits", "created_at")
_KEY_COLUMNS: Final = ("id", "name", "status", "models", "limits", "max_output_tokens", "expires_at", "created_at")


@tenant.command("create")
def tenant_create(
    id_: Annotated[str, typer.Argument(metavar="ID", help="Lower-case letters, digits, dashes.")],
    name: Annotated[str | None, typer.Option(help="For people; the id if omitted.")] = None,
    plan: Annotated[str | None, typer.Option()] = None,
    limit: Limits = None,
    *,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Create a tenant."""
    body = {"id": id_, "name": name or id_, "plan": plan, "limits": limits(limit)}
    show_one(post("/v1/tenants", body, url), as_json=as_json)


@tenant.command("list")
def tenant_list(*, as_json: AsJson = False, url: Url = None) -> None:
    """List all tenants."""
    show_list("tenants", pages("/v1/tenants", url), _TENANT_COLUMNS, as_json=as_json)


@tenant.command("show")
def tenant_show(tenant_id: Tenant, *, as_json: AsJson = False, url: Url = None) -> None:
    """Show one tenant."""
    show_one(get(f"/v1/tenants/{segment(tenant_id)}", url), as_json=as_json)


@key.command("create")
def key_create(
    tenant_id: Tenant,
    name: Annotated[str, typer.Argument(help="For people.")],
    limit: Limits = None,
    model: Annotated[list[str] | None, typer.Option(help="A model it may use; all priced models if omitted.")] = None,
    max_output_tokens: Annotated[int | None, typer.Option(min=1)] = None,
    expires_at: Annotated[str | None, typer.Option(help="RFC 3339, such as 2030-01-31T00:00:00Z.")] = None,
    *,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Create a virtual key. It is shown only once."""
    body = {
        "name": name,
        "limits": limits(limit),
        "models": model,
        "max_output_tokens": max_output_tokens,
        "expires_at": expires_at,
    }
    path = f"/v1/tenants/{segment(tenant_id)}/keys"
    create_shown_once("key", path, body, url, "key", as_json=as_json, revoke=f"key revoke {tenant_id}")
    if not as_json:
        sys.stderr.write("Store the key now: it is not shown again.\n")


@key.command("list")
def key_list(tenant_id: Tenant, *, as_json: AsJson = False, url: Url = None) -> None:
    """List the keys of a tenant."""
    show_list("keys", keys_of(tenant_id, url), _KEY_COLUMNS, as_json=as_json)


@key.command("show")
def key_show(tenant_id: Tenant, key_: KeyArgument, *, as_json: AsJson = False, url: Url = None) -> None:
    """Show one key, without the key itself."""
    show_one(get(_key_path(tenant_id, key_), url), as_json=as_json)


@key.command("revoke")
def key_revoke(tenant_id: Tenant, key_: KeyArgument, *, as_json: AsJson = False, url: Url = None) -> None:
    """Revoke a key: once this returns, no request of it is admitted."""
    show_one(post(f"{_key_path(tenant_id, key_)}/revoke", None, url, "status"), as_json=as_json)


def keys_of(tenant_id: str, url: str | None) -> list[Any]:
    """Return all keys of a tenant."""
    return pages(f"/v1/tenants/{segment(tenant_id)}/keys", url)


def _key_path(tenant_id: str, key_: str) -> str:
    return f"/v1/tenants/{segment(tenant_id)}/keys/{segment(key_id(key_))}"
