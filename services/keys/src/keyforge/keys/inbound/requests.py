"""What the operators' API accepts, as OpenAPI shows it. Unknown fields are refused, types are not converted."""

from typing import Annotated, Any

from msgspec import UNSET
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from keyforge.contracts.events import Role, TenantStatus
from keyforge.contracts.ids import (
    MODEL_NAME_CHARS_MAX,
    ROUTE_NAME_CHARS_MAX,
    ProviderId,
    TenantId,
    model_name_pattern,
)
from keyforge.contracts.limits import CAP_MAX, LIMITS_MAX, Unit, Window
from keyforge.contracts.providers import DIALECTS, Auth, Dialect
from keyforge.keys.core.keys import KeyPatch, NewKey
from keyforge.keys.core.limits import NewLimit
from keyforge.keys.core.prices import NewPrice
from keyforge.keys.core.providers import NewProvider
from keyforge.keys.core.tenants import NewTenant, TenantPatch
from keyforge.runtime.timestamps import Timestamp

MODELS_MAX = 500
"""Chosen: a key's entry of the directory, which holds them, has 102 KB with names of 200 characters (measured)."""
TOKENS_MAX = 100_000_000
"""Chosen: some 100 times the largest context windows."""
WEIGHT_MAX = 1_000
"""Chosen: in a pool of 200 credentials (`providers.CREDENTIALS_MAX`) one of weight 1 gets one request in 200,000."""

SLUG_PATTERN = r"^[a-z0-9][a-z0-9-]{0,62}$"
_DECIMAL = r"^[0-9]{1,10}(\.[0-9]{1,12})?$"


def _without_default(schema: dict[str, Any]) -> None:
    schema.pop("default", None)


_OMITTED: Any = Field(default="", json_schema_extra=_without_default)
"""A field that a patch may omit and that must not be null: `model_fields_set` has the fields that were given."""


def _cap(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    """Say once what is allowed: pydantic would name each member of the union as if it were a field."""
    try:
        return check(value)
    except ValidationError:
        raise ValueError(
            f'must be a decimal string of dollars on usd, such as "5.00", and a whole number up to {CAP_MAX} on others'
        ) from None


Slug = Annotated[str, Field(pattern=SLUG_PATTERN, description="Lower-case letters, digits and dashes.")]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
Dollars = Annotated[str, Field(pattern=_DECIMAL, description="Dollars as a decimal string.", examples=["0.15"])]
ModelPattern = Annotated[str, Field(pattern=f"^{model_name_pattern(ROUTE_NAME_CHARS_MAX)}$")]
ModelId = Annotated[str, Field(pattern=f"^{model_name_pattern(MODEL_NAME_CHARS_MAX)}$")]
Tokens = Annotated[int, Field(ge=1, le=TOKENS_MAX)]
Cap = Annotated[Annotated[int, Field(ge=0, le=CAP_MAX)] | Dollars, WrapValidator(_cap)]


class StrictRequest(BaseModel):
    """A request body without unknown fields or converted types."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class LimitRequest(StrictRequest):
    """A cap on a unit over a window."""

    unit: Unit
    window: Window | None = Field(None, description="`total` for concurrency, where it may be omitted.")
    cap: Cap = Field(description="usd: dollars as a decimal string; any other unit: a whole number.")


Limits = Annotated[list[LimitRequest], Field(max_length=LIMITS_MAX)]
Models = Annotated[list[ModelPattern], Field(max_length=MODELS_MAX)]


class TenantRequest(StrictRequest):
    """A new tenant."""

    id: Slug
    name: Name
    plan: str | None = Field(None, max_length=63)
    limits: Limits | None = None

    def to_core(self) -> NewTenant:
        """Return it as the core's command, which has no name: that is encrypted first."""
        return NewTenant(tenant=TenantId(self.id), plan=self.plan, limits=_new_limits(self.limits))


class TenantPatchRequest(StrictRequest):
    """What to change of a tenant: an omitted field stays as it is, null clears."""

    name: Name = _OMITTED
    plan: str | None = Field(None, max_length=63)
    status: TenantStatus = _OMITTED
    limits: Limits | None = None

    @property
    def new_name(self) -> str | None:
        """The name, if one was given."""
        return self.name if "name" in self.model_fields_set else None

    def to_core(self) -> TenantPatch:
        """Return it as the core's command."""
        given = self.model_fields_set
        return TenantPatch(
            plan=self.plan if "plan" in given else UNSET,
            status=self.status if "status" in given else UNSET,
            limits=_new_limits(self.limits) if "limits" in given else UNSET,
        )


class KeyRequest(StrictRequest):
    """A new key. Without `models` it may use every priced model; an empty list means none."""

    name: Name
    models: Models | None = None
    limits: Limits | None = None
    max_output_tokens: Tokens | None = None
    expires_at: Timestamp | None = None

    def to_core(self) -> NewKey:
        """Return it as the core's command."""
        return NewKey(
            models=None if self.models is None else tuple(self.models),
            limits=_new_limits(self.limits),
            max_output_tokens=self.max_output_tokens,
            expires_at=self.expires_at,
        )


class KeyPatchRequest(StrictRequest):
    """What to change of a key: an omitted field stays as it is, null removes a restriction."""

    name: Name = _OMITTED
    models: Models | None = None
    limits: Limits | None = None
    max_output_tokens: Tokens | None = None
    expires_at: Timestamp | None = None

    @property
    def new_name(self) -> str | None:
        """The name, if one was given."""
        return self.name if "name" in self.model_fields_set else None

    def to_core(self) -> KeyPatch:
        """Return it as the core's command."""
        given = self.model_fields_set
        models = None if self.models is None else tuple(self.models)
        return KeyPatch(
            models=models if "models" in given else UNSET,
            limits=_new_limits(self.limits) if "limits" in given else UNSET,
            max_output_tokens=self.max_output_tokens if "max_output_tokens" in given else UNSET,
            expires_at=self.expires_at if "expires_at" in given else UNSET,
        )


class RevokeRequest(StrictRequest):
    """Why a key, a credential or a token is revoked, for the record."""

    reason: Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")] = ""


class ResumeRequest(StrictRequest):
    """A model whose freeze is to be lifted."""

    provider: Slug
    model: ModelId


class ProviderRequest(StrictRequest):
    """A provider. `kind` is a preset of the three fields after `allow_insecure`; `openai-compatible` for any other."""

    id: Slug
    kind: Slug
    base_url: Annotated[str, Field(max_length=512)]
    allow_insecure: bool = Field(default=False, description="Permit http and private addresses.")
    dialects: Annotated[list[Dialect], Field(min_length=1, max_length=len(DIALECTS))] | None = Field(
        default=None, description="What it speaks, in order of preference; by default what its kind speaks."
    )
    auth: Auth | None = Field(
        default=None, description="Which header carries a credential; by default that of its kind."
    )
    price_feed: Slug | None = Field(
        default=None, description="Whose price data applies; null for none, by default that of its kind."
    )

    def to_core(self) -> NewProvider:
        """Return it as the core's command."""
        return NewProvider(
            provider=ProviderId(self.id),
            kind=self.kind,
            base_url=self.base_url,
            allow_insecure=self.allow_insecure,
            dialects=UNSET if self.dialects is None else tuple(self.dialects),
            auth=UNSET if self.auth is None else self.auth,
            price_feed=self.price_feed if "price_feed" in self.model_fields_set else UNSET,
        )


class CredentialRequest(StrictRequest):
    """A credential. Its secret is encrypted to the edges' public key and never returned."""

    secret: Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[!-~]+$")]
    weight: Annotated[int, Field(ge=1, le=WEIGHT_MAX)] = 1
    quota_group: Slug | None = Field(None, description="Credentials of one account share one; else each has its own.")


class PriceRequest(StrictRequest):
    """What a model costs, per million tokens. Tokens without a price of their own cost what input or output costs; a
    write for an hour what a write does, if that is more. An agent may ask for one only where it has a price of its own.
    """

    input_per_mtok: Dollars
    output_per_mtok: Dollars
    cache_read_per_mtok: Dollars | None = None
    cache_write_per_mtok: Dollars | None = None
    cache_write_1h_per_mtok: Dollars | None = None
    reasoning_per_mtok: Dollars | None = None
    input_audio_per_mtok: Dollars | None = None
    output_audio_per_mtok: Dollars | None = None
    per_request: Dollars | None = None
    max_output_tokens: Tokens | None = None
    max_thinking_tokens: Tokens | None = Field(
        None, description="What the model may think beside the cap on its output; null: it thinks within the cap."
    )
    context_tokens: Tokens | None = None

    def to_core(self) -> NewPrice:
        """Return it as the core's command."""
        return NewPrice(**self.model_dump())


class OperatorRequest(StrictRequest):
    """A new token for the operators' API."""

    role: Role = "platform-admin"


def _new_limits(limits: list[LimitRequest] | None) -> tuple[NewLimit, ...]:
    return tuple(NewLimit(limit.unit, limit.window, limit.cap) for limit in limits or ())
