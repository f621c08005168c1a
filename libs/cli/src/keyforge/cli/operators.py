"""Commands over keys' API: tenants, keys, providers, credentials, prices."""

import sys
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer

from keyforge.cli.options import AsJson, KeyArgument, Limits, Tenant, Url, key_id, limits

SECRET_VARIABLE: Final = "KEYFORGE_CREDENTIAL_SECRET"  # noqa: S105  # the name of a variable
OTHER_KIND: Final = "openai-compatible"
PAGES_MAX: Final = 10_000
SECRET_CHARS_MAX: Final = 16_384

tenant = typer.Typer(no_args_is_help=True, help="Who pays.")
key = typer.Typer(no_args_is_help=True, help="What agents show us.")
provider = typer.Typer(no_args_is_help=True, help="Where calls are forwarded to.")
credential = typer.Typer(no_args_is_help=True, help="What we show a provider.")
price = typer.Typer(no_args_is_help=True, help="What models cost.")

_TENANT_COLUMNS: Final = ("id", "name", "status", "plan", "limits", "created_at")
_KEY_COLUMNS: Final = ("id", "name", "status", "models", "limits", "max_output_tokens", "expires_at", "created_at")
_PROVIDER_COLUMNS: Final = ("id", "kind", "base_url", "allow_insecure")
_PRICE_COLUMNS: Final = (
    "provider",
    "model",
    "input_per_mtok",
    "output_per_mtok",
    "max_output_tokens",
    "context_tokens",
    "source",
)


@tenant.command("create")
def tenant_create(
    id_: Annotated[str, typer.Argument(metavar="ID", help="Lower-case letters, digits, dashes.")],
    name: Annotated[str | None, typer.Option(help="As shown to people; the id if not given.")] = None,
    plan: Annotated[str | None, typer.Option()] = None,
    limit: Limits = None,
    *,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Make a tenant."""
    body = {"id": id_, "name": name or id_, "plan": plan, "limits": limits(limit)}
    _show_one(_post("/v1/tenants", body, url), as_json=as_json)


@tenant.command("list")
def tenant_list(*, as_json: AsJson = False, url: Url = None) -> None:
    """List all tenants."""
    _show_list(_pages("/v1/tenants", url), _TENANT_COLUMNS, as_json=as_json)


@tenant.command("show")
def tenant_show(tenant_id: Tenant, *, as_json: AsJson = False, url: Url = None) -> None:
    """Show one tenant."""
    _show_one(_get(f"/v1/tenants/{_part(tenant_id)}", url), as_json=as_json)


@key.command("create")
def key_create(
    tenant_id: Tenant,
    name: Annotated[str, typer.Argument(help="As shown to people.")],
    limit: Limits = None,
    model: Annotated[list[str] | None, typer.Option(help="May be used; all priced models if not given.")] = None,
    max_output_tokens: Annotated[int | None, typer.Option(min=1)] = None,
    expires_at: Annotated[str | None, typer.Option(help="RFC 3339, as in 2030-01-31T00:00:00Z.")] = None,
    *,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Make a virtual key. It is shown this once."""
    body = {
        "name": name,
        "limits": limits(limit),
        "models": model,
        "max_output_tokens": max_output_tokens,
        "expires_at": expires_at,
    }
    made = _post(f"/v1/tenants/{_part(tenant_id)}/keys", body, url)
    _show_one(made, as_json=as_json)
    if not as_json:
        sys.stderr.write("Keep the key now: it is not shown again.\n")


@key.command("list")
def key_list(tenant_id: Tenant, *, as_json: AsJson = False, url: Url = None) -> None:
    """List the keys of a tenant."""
    _show_list(keys_of(tenant_id, url), _KEY_COLUMNS, as_json=as_json)


@key.command("show")
def key_show(tenant_id: Tenant, key_: KeyArgument, *, as_json: AsJson = False, url: Url = None) -> None:
    """Show one key, without the key itself."""
    _show_one(_get(_key_path(tenant_id, key_), url), as_json=as_json)


@key.command("revoke")
def key_revoke(tenant_id: Tenant, key_: KeyArgument, *, as_json: AsJson = False, url: Url = None) -> None:
    """Revoke a key: when this returns, nothing more is admitted."""
    _show_one(_post(f"{_key_path(tenant_id, key_)}/revoke", None, url), as_json=as_json)


@provider.command("add")
def provider_add(
    id_: Annotated[str, typer.Argument(metavar="ID", help="The first part of its models' names.")],
    base_url: Annotated[str, typer.Argument(help="As in https://api.openai.com/v1.")],
    kind: Annotated[str | None, typer.Option(help="Decides which price data applies, as in openai.")] = None,
    *,
    allow_insecure: Annotated[bool, typer.Option("--allow-insecure", help="Permit http and loopback.")] = False,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Register a provider, or give it another address."""
    body = {"id": id_, "kind": kind or OTHER_KIND, "base_url": base_url, "allow_insecure": allow_insecure}
    _show_one(_post("/v1/providers", body, url), as_json=as_json)


@provider.command("list")
def provider_list(*, as_json: AsJson = False, url: Url = None) -> None:
    """List all providers."""
    _show_list(_pages("/v1/providers", url), _PROVIDER_COLUMNS, as_json=as_json)


@credential.command("add")
def credential_add(
    provider_id: Annotated[str, typer.Argument(metavar="PROVIDER")],
    weight: Annotated[int | None, typer.Option(min=1)] = None,
    quota_group: Annotated[str | None, typer.Option(help="Credentials of one account share a quota group.")] = None,
    *,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Give a provider a credential, from KEYFORGE_CREDENTIAL_SECRET, standard input, or a prompt; never an argument."""
    body = {"secret": _secret(), "weight": weight, "quota_group": quota_group}
    _show_one(_post(f"/v1/providers/{_part(provider_id)}/credentials", body, url), as_json=as_json)


@price.command("set")
def price_set(
    provider_id: Annotated[str, typer.Argument(metavar="PROVIDER")],
    model: Annotated[str, typer.Argument(help="Without its provider.")],
    input_: Annotated[str, typer.Option("--input", metavar="USD", help="Dollars per million input tokens.")],
    output: Annotated[str, typer.Option("--output", metavar="USD", help="Dollars per million output tokens.")],
    max_output_tokens: Annotated[int | None, typer.Option(min=1)] = None,
    *,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Price a model; that also makes it known."""
    from keyforge.cli.api import connect

    body = {"input_per_mtok": input_, "output_per_mtok": output, "max_output_tokens": max_output_tokens}
    with connect("keys", url) as keys:
        made = keys.put(f"/v1/prices/{_part(provider_id)}/{quote(model, safe='/')}", body)
    _show_one(made, as_json=as_json)


@price.command("list")
def price_list(
    provider_id: Annotated[str | None, typer.Argument(metavar="[PROVIDER]", show_default=False)] = None,
    *,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """List what models cost, of one provider or of all."""
    _show_list(_pages("/v1/prices", url, provider=provider_id), _PRICE_COLUMNS, as_json=as_json)


def keys_of(tenant_id: str, url: str | None) -> list[Any]:
    """Return all keys of a tenant."""
    return _pages(f"/v1/tenants/{_part(tenant_id)}/keys", url)


def _get(path: str, url: str | None) -> Any:
    from keyforge.cli.api import connect

    with connect("keys", url) as keys:
        return keys.get(path)


def _pages(path: str, url: str | None, **query: str | None) -> list[Any]:
    """Return a whole list, page by page."""
    from keyforge.cli.api import connect

    found: list[Any] = []
    with connect("keys", url) as keys:
        for _ in range(PAGES_MAX):
            page = keys.get(path, **query)
            found += page["data"]
            if not page.get("next"):
                break
            query = {**query, "after": page["next"]}
    return found


def _post(path: str, body: dict[str, Any] | None, url: str | None) -> Any:
    from keyforge.cli.api import connect

    with connect("keys", url) as keys:
        return keys.post(path, body)


def _key_path(tenant_id: str, key_: str) -> str:
    return f"/v1/tenants/{_part(tenant_id)}/keys/{_part(key_id(key_))}"


def _part(text: str) -> str:
    """One part of a path, whatever it holds."""
    return quote(text, safe="")


def _secret() -> str:
    import os

    from keyforge.cli.errors import UsageError

    found = os.environ.get(SECRET_VARIABLE)
    if not found:
        if sys.stdin.isatty():
            found = typer.prompt("Secret", hide_input=True, err=True)
        else:
            found = sys.stdin.read(SECRET_CHARS_MAX)
    found = found.strip()
    if not found:
        raise UsageError(f"no secret: set {SECRET_VARIABLE}, or write it to standard input")
    return found


def _show_one(value: Any, *, as_json: bool) -> None:
    from keyforge.cli import show

    if as_json:
        show.as_json(value)
    elif isinstance(value, dict):
        show.fields(value)


def _show_list(rows: list[Any], columns: tuple[str, ...], *, as_json: bool) -> None:
    from keyforge.cli import show

    if as_json:
        show.as_json({"data": rows})
    else:
        show.table(rows, columns)
