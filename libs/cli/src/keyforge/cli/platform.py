"""Commands over the API of `keys`: what belongs to no tenant: providers, credentials, prices, operators' tokens."""

import sys
from typing import Annotated, Final
from urllib.parse import quote

import typer

from keyforge.cli.keys_api import create_shown_once, pages, post, segment, show_list, show_one
from keyforge.cli.options import AsJson, Reason, Url, token_id

SECRET_VARIABLE: Final = "KEYFORGE_CREDENTIAL_SECRET"  # noqa: S105  # the name of a variable
OTHER_KIND: Final = "openai-compatible"
SECRET_CHARS_MAX: Final = 16_384
"""Read from standard input at most: four times what a credential may have."""

provider = typer.Typer(no_args_is_help=True, help="Providers: where calls are forwarded to.")
credential = typer.Typer(no_args_is_help=True, help="Credentials: what we show a provider.")
price = typer.Typer(no_args_is_help=True, help="Prices of models.")
operator = typer.Typer(no_args_is_help=True, help="Operators' tokens: who may use this command line.")

Provider = Annotated[str, typer.Argument(metavar="PROVIDER", help="The provider's id.")]

_CachePrice = Annotated[
    str | None, typer.Option(metavar="USD", help="Dollars per million tokens; what others cost, if omitted.")
]

_PROVIDER_COLUMNS: Final = ("id", "kind", "base_url", "allow_insecure")
_CREDENTIAL_COLUMNS: Final = ("id", "status", "weight", "quota_group", "base_url", "created_at")
_PRICE: Final = {"provider": str, "model": str}
_OPERATOR_COLUMNS: Final = ("id", "role", "status", "created_at", "updated_at")
_PRICE_COLUMNS: Final = (
    "provider",
    "model",
    "input_per_mtok",
    "output_per_mtok",
    "max_output_tokens",
    "context_tokens",
    "source",
)


@provider.command("add")
def provider_add(
    id_: Annotated[str, typer.Argument(metavar="ID", help="The first segment of its models' names.")],
    base_url: Annotated[str, typer.Argument(help="Such as https://api.openai.com/v1.")],
    kind: Annotated[str | None, typer.Option(help="A preset of what follows, such as openai.")] = None,
    *,
    dialect: Annotated[list[str] | None, typer.Option(help="What it speaks, such as openai-chat; repeatable.")] = None,
    auth: Annotated[
        str | None, typer.Option(help="Which header carries a credential: bearer, x-api-key or api-key.")
    ] = None,
    price_feed: Annotated[str | None, typer.Option(help="Whose price data applies, such as openai.")] = None,
    allow_insecure: Annotated[bool, typer.Option("--allow-insecure", help="Permit http and loopback.")] = False,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Register a provider, or change its address."""
    body = {"id": id_, "kind": kind or OTHER_KIND, "base_url": base_url, "allow_insecure": allow_insecure}
    given = {"dialects": dialect, "auth": auth, "price_feed": price_feed}
    body |= {name: value for name, value in given.items() if value is not None}
    show_one(post("/v1/providers", body, url), as_json=as_json)


@provider.command("list")
def provider_list(*, as_json: AsJson = False, url: Url = None) -> None:
    """List all providers."""
    show_list("providers", pages("/v1/providers", url), _PROVIDER_COLUMNS, as_json=as_json)


@credential.command("add")
def credential_add(
    provider_id: Provider,
    weight: Annotated[int | None, typer.Option(min=1)] = None,
    quota_group: Annotated[str | None, typer.Option(help="Credentials of one account share a quota group.")] = None,
    *,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Add a credential, from KEYFORGE_CREDENTIAL_SECRET, standard input or a prompt; never from an argument."""
    body = {"secret": _secret(), "weight": weight, "quota_group": quota_group}
    path = _credentials_path(provider_id)
    create_shown_once("credential", path, body, url, as_json=as_json, revoke=f"credential revoke {provider_id}")


@credential.command("list")
def credential_list(provider_id: Provider, *, as_json: AsJson = False, url: Url = None) -> None:
    """List the credentials of a provider, without their secrets."""
    show_list("credentials", pages(_credentials_path(provider_id), url), _CREDENTIAL_COLUMNS, as_json=as_json)


@credential.command("revoke")
def credential_revoke(
    provider_id: Provider,
    credential_id: Annotated[str, typer.Argument(metavar="CREDENTIAL", help="Its id: see `credential list`.")],
    reason: Reason = None,
    *,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Revoke a credential: no further call uses it."""
    path = f"{_credentials_path(provider_id)}/{segment(credential_id)}/revoke"
    show_one(post(path, {"reason": reason}, url, "status"), as_json=as_json)


@price.command("set")
def price_set(
    provider_id: Provider,
    model: Annotated[str, typer.Argument(help="Without the provider.")],
    input_: Annotated[str, typer.Option("--input", metavar="USD", help="Dollars per million input tokens.")],
    output: Annotated[str, typer.Option("--output", metavar="USD", help="Dollars per million output tokens.")],
    cache_read: _CachePrice = None,
    cache_write: _CachePrice = None,
    cache_write_1h: _CachePrice = None,
    max_output_tokens: Annotated[int | None, typer.Option(min=1)] = None,
    max_thinking_tokens: Annotated[
        int | None, typer.Option(min=1, help="What it may think beside the cap on its output; within it, if omitted.")
    ] = None,
    *,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Set the price of a model; this also makes the model known."""
    from keyforge.cli.api import connect

    body = {
        "input_per_mtok": input_,
        "output_per_mtok": output,
        "cache_read_per_mtok": cache_read,
        "cache_write_per_mtok": cache_write,
        "cache_write_1h_per_mtok": cache_write_1h,
        "max_output_tokens": max_output_tokens,
        "max_thinking_tokens": max_thinking_tokens,
    }
    with connect("keys", url) as keys:
        path = f"/v1/prices/{segment(provider_id)}/{quote(model, safe='/')}"
        stored = keys.put(path, body, due=_PRICE)
    show_one(stored, as_json=as_json)


@price.command("list")
def price_list(
    provider_id: Annotated[str | None, typer.Argument(metavar="[PROVIDER]", show_default=False)] = None,
    *,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """List prices, of one provider or of all."""
    show_list("prices", pages("/v1/prices", url, provider=provider_id), _PRICE_COLUMNS, as_json=as_json)


@operator.command("create")
def operator_create(
    role: Annotated[
        str, typer.Option(help="platform-admin, or platform-auditor, which may only read.")
    ] = "platform-admin",
    *,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Create an operator's token. It is shown only once."""
    create_shown_once("token", "/v1/operators", {"role": role}, url, "token", as_json=as_json, revoke="operator revoke")
    if not as_json:
        sys.stderr.write("Store the token now: it is not shown again.\n")


@operator.command("list")
def operator_list(*, as_json: AsJson = False, url: Url = None) -> None:
    """List operators' tokens, without their text."""
    show_list("operators", pages("/v1/operators", url), _OPERATOR_COLUMNS, as_json=as_json)


@operator.command("revoke")
def operator_revoke(
    token: Annotated[str, typer.Argument(metavar="ID", help="The token's id, not the token itself.")],
    reason: Reason = None,
    *,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Revoke an operator's token; the last platform-admin cannot be revoked."""
    show_one(
        post(f"/v1/operators/{segment(token_id(token))}/revoke", {"reason": reason}, url, "status"), as_json=as_json
    )


def _credentials_path(provider_id: str) -> str:
    return f"/v1/providers/{segment(provider_id)}/credentials"


def _secret() -> str:
    import os

    from keyforge.cli.errors import UsageError
    from keyforge.contracts import variables

    if (nothing := variables.empty(os.environ, SECRET_VARIABLE)) is not None:
        raise UsageError(nothing)
    secret = os.environ.get(SECRET_VARIABLE)
    if not secret:
        if sys.stdin.isatty():
            secret = typer.prompt("Secret", hide_input=True, err=True)
        else:
            try:
                secret = sys.stdin.read(SECRET_CHARS_MAX)
            except UnicodeDecodeError:
                raise UsageError("no secret: standard input is not text in UTF-8") from None
            except OSError as error:
                raise UsageError(f"no secret: standard input cannot be read: {error.strerror}") from None
    secret = secret.strip()
    if not secret:
        raise UsageError(f"no secret: set {SECRET_VARIABLE}, or write it to standard input")
    return secret
