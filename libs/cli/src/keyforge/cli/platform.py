"""Commands over keys' API: what belongs to no tenant, which is providers, credentials, prices and operators' tokens."""

import sys
from typing import Annotated, Final
from urllib.parse import quote

import typer

from keyforge.cli.asking import pages, part, post, show_list, show_one
from keyforge.cli.options import AsJson, Reason, Url, token_id

SECRET_VARIABLE: Final = "KEYFORGE_CREDENTIAL_SECRET"  # noqa: S105  # the name of a variable
OTHER_KIND: Final = "openai-compatible"
SECRET_CHARS_MAX: Final = 16_384

provider = typer.Typer(no_args_is_help=True, help="Where calls are forwarded to.")
credential = typer.Typer(no_args_is_help=True, help="What we show a provider.")
price = typer.Typer(no_args_is_help=True, help="What models cost.")
operator = typer.Typer(no_args_is_help=True, help="Who may do what this command line does.")

Provider = Annotated[str, typer.Argument(metavar="PROVIDER", help="The provider's id.")]

_PROVIDER_COLUMNS: Final = ("id", "kind", "base_url", "allow_insecure")
_CREDENTIAL_COLUMNS: Final = ("id", "status", "weight", "quota_group", "base_url", "created_at")
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
    """Give a provider a credential, from KEYFORGE_CREDENTIAL_SECRET, standard input, or a prompt; never an argument."""
    body = {"secret": _secret(), "weight": weight, "quota_group": quota_group}
    show_one(post(_credentials_path(provider_id), body, url), as_json=as_json)


@credential.command("list")
def credential_list(provider_id: Provider, *, as_json: AsJson = False, url: Url = None) -> None:
    """List a provider's credentials, without what they hold."""
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
    """Revoke a credential: no further call is made with it."""
    path = f"{_credentials_path(provider_id)}/{part(credential_id)}/revoke"
    show_one(post(path, {"reason": reason}, url), as_json=as_json)


@price.command("set")
def price_set(
    provider_id: Provider,
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
        made = keys.put(f"/v1/prices/{part(provider_id)}/{quote(model, safe='/')}", body)
    show_one(made, as_json=as_json)


@price.command("list")
def price_list(
    provider_id: Annotated[str | None, typer.Argument(metavar="[PROVIDER]", show_default=False)] = None,
    *,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """List what models cost, of one provider or of all."""
    show_list("prices", pages("/v1/prices", url, provider=provider_id), _PRICE_COLUMNS, as_json=as_json)


@operator.command("create")
def operator_create(
    role: Annotated[
        str, typer.Option(help="platform-admin, or platform-auditor, who may only read.")
    ] = "platform-admin",
    *,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Make a token for operators. It is shown this once."""
    show_one(post("/v1/operators", {"role": role}, url), as_json=as_json)
    if not as_json:
        sys.stderr.write("Keep the token now: it is not shown again.\n")


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
    """Revoke an operator's token; the last platform admin's stays."""
    show_one(post(f"/v1/operators/{part(token_id(token))}/revoke", {"reason": reason}, url), as_json=as_json)


def _credentials_path(provider_id: str) -> str:
    return f"/v1/providers/{part(provider_id)}/credentials"


def _secret() -> str:
    import os

    from keyforge.embedded.errors import UsageError

    found = os.environ.get(SECRET_VARIABLE)
    if not found:
        if sys.stdin.isatty():
            found = typer.prompt("Secret", hide_input=True, err=True)
        else:
            try:
                found = sys.stdin.read(SECRET_CHARS_MAX)
            except UnicodeDecodeError:
                raise UsageError("no secret: what standard input holds is not text in UTF-8") from None
    found = found.strip()
    if not found:
        raise UsageError(f"no secret: set {SECRET_VARIABLE}, or write it to standard input")
    return found
