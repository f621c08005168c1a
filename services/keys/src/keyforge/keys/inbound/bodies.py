"""What the operators' API takes, in the shape that OpenAPI shows. Unknown fields are refused, types are not bent."""

from datetime import datetime
from typing import Annotated, Any

from msgspec import UNSET
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from keyforge.contracts.events import Role, TenantStatus
from keyforge.contracts.ids import ProviderId, TenantId
from keyforge.contracts.limits import LIMITS_MAX, Unit, Window
from keyforge.keys.core.keys import KeyPatch, NewKey
from keyforge.keys.core.limits import LimitAsk
from keyforge.keys.core.prices import PriceAsk
from keyforge.keys.core.providers import NewProvider
from keyforge.keys.core.tenants import NewTenant, TenantPatch

MODELS_MAX = 500
TOKENS_MAX = 100_000_000
WEIGHT_MAX = 1_000

SLUG_PATTERN = r"^[a-z0-9][a-z0-9-]{0,62}$"
_DECIMAL = r"^[0-9]{1,10}(\.[0-9]{1,12})?$"


def _without_default(schema: dict[str, Any]) -> None:
    schema.pop("default", None)


_LEFT_OUT: Any = Field(default="", json_schema_extra=_without_default)
"""A field that a patch may leave out and that null is no value for: what was given is in `model_fields_set`."""


def _moment(value: Any) -> Any:
    """Take RFC 3339 text alone: a number would be read as seconds or milliseconds, whichever fits."""
    if isinstance(value, str) and len(value) >= 20 and value[4] == value[7] == "-" and value[10] in "Tt ":
        return value
    if isinstance(value, datetime):
        return value
    raise ValueError("a moment is RFC 3339 text with an offset, such as 2030-01-31T00:00:00Z")


Slug = Annotated[str, Field(pattern=SLUG_PATTERN, description="Lower-case letters, digits and dashes.")]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
Dollars = Annotated[str, Field(pattern=_DECIMAL, description="Dollars as a decimal string.", examples=["0.15"])]
ModelPattern = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@/+-]{0,262}$")]
ModelId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@/+-]{0,199}$")]
Tokens = Annotated[int, Field(ge=1, le=TOKENS_MAX)]
Moment = Annotated[AwareDatetime, BeforeValidator(_moment), Field(strict=False)]
Cap = Annotated[int, Field(ge=0, le=9_000_000_000_000_000_000)] | Dollars


class Body(BaseModel):
    """A request body."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class LimitBody(Body):
    """A cap on a unit over a window."""

    unit: Unit
    window: Window | None = Field(None, description="`total` for concurrency, where it may be left out.")
    cap: Cap = Field(description="usd: dollars as a decimal string; everything else: a whole number.")


Limits = Annotated[list[LimitBody], Field(max_length=LIMITS_MAX)]
Models = Annotated[list[ModelPattern], Field(max_length=MODELS_MAX)]


class TenantBody(Body):
    """A new tenant."""

    id: Slug
    name: Name
    plan: str | None = Field(None, max_length=63)
    limits: Limits | None = None

    def ask(self) -> NewTenant:
        """Return it in the core's terms."""
        return NewTenant(tenant=TenantId(self.id), name=self.name, plan=self.plan, limits=_asks(self.limits))


class TenantPatchBody(Body):
    """What to change of a tenant: what is left out stays, null clears."""

    name: Name = _LEFT_OUT
    plan: str | None = Field(None, max_length=63)
    status: TenantStatus = _LEFT_OUT
    limits: Limits | None = None

    def ask(self) -> TenantPatch:
        """Return it in the core's terms."""
        given = self.model_fields_set
        return TenantPatch(
            name=self.name if "name" in given else UNSET,
            plan=self.plan if "plan" in given else UNSET,
            status=self.status if "status" in given else UNSET,
            limits=_asks(self.limits) if "limits" in given else UNSET,
        )


class KeyBody(Body):
    """A new key. Without `models` it may use every priced model; an empty list means none."""

    name: Name
    models: Models | None = None
    limits: Limits | None = None
    max_output_tokens: Tokens | None = None
    expires_at: Moment | None = None

    def ask(self) -> NewKey:
        """Return it in the core's terms."""
        return NewKey(
            name=self.name,
            models=None if self.models is None else tuple(self.models),
            limits=_asks(self.limits),
            max_output_tokens=self.max_output_tokens,
            expires_at=self.expires_at,
        )


class KeyPatchBody(Body):
    """What to change of a key: what is left out stays, null takes a restriction away."""

    name: Name = _LEFT_OUT
    models: Models | None = None
    limits: Limits | None = None
    max_output_tokens: Tokens | None = None
    expires_at: Moment | None = None

    def ask(self) -> KeyPatch:
        """Return it in the core's terms."""
        given = self.model_fields_set
        models = None if self.models is None else tuple(self.models)
        return KeyPatch(
            name=self.name if "name" in given else UNSET,
            models=models if "models" in given else UNSET,
            limits=_asks(self.limits) if "limits" in given else UNSET,
            max_output_tokens=self.max_output_tokens if "max_output_tokens" in given else UNSET,
            expires_at=self.expires_at if "expires_at" in given else UNSET,
        )


class RevokeBody(Body):
    """Why a key, a credential or a token is ended; for the record."""

    reason: Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")] = ""


class ResumeBody(Body):
    """A model whose freeze is to be lifted."""

    provider: Slug
    model: ModelId


class ProviderBody(Body):
    """A provider. `kind` says whose API and prices it has; `openai-compatible` for any other."""

    id: Slug
    kind: Slug
    base_url: Annotated[str, Field(max_length=512)]
    allow_insecure: bool = Field(default=False, description="Permit http and private addresses.")

    def ask(self) -> NewProvider:
        """Return it in the core's terms."""
        return NewProvider(
            provider=ProviderId(self.id), kind=self.kind, base_url=self.base_url, allow_insecure=self.allow_insecure
        )


class CredentialBody(Body):
    """A credential. Its secret is sealed to the edges and never shown again."""

    secret: Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[!-~]+$")]
    weight: Annotated[int, Field(ge=1, le=WEIGHT_MAX)] = 1
    quota_group: Slug | None = Field(None, description="Credentials of one account share one; else each has its own.")


class PriceBody(Body):
    """What a model costs, per million tokens. A bucket without a price costs what it is billed as."""

    input_per_mtok: Dollars
    output_per_mtok: Dollars
    cache_read_per_mtok: Dollars | None = None
    cache_write_per_mtok: Dollars | None = None
    reasoning_per_mtok: Dollars | None = None
    input_audio_per_mtok: Dollars | None = None
    output_audio_per_mtok: Dollars | None = None
    per_request: Dollars | None = None
    max_output_tokens: Tokens | None = None
    context_tokens: Tokens | None = None

    def ask(self) -> PriceAsk:
        """Return it in the core's terms."""
        return PriceAsk(**self.model_dump())


class OperatorBody(Body):
    """A further token for the operators' API."""

    role: Role = "platform-admin"


def _asks(limits: list[LimitBody] | None) -> tuple[LimitAsk, ...]:
    return tuple(LimitAsk(limit.unit, limit.window, limit.cap) for limit in limits or ())
