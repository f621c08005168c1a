"""What the embedded stack begins with, as a pure plan: what is wanted, minus what already exists.

A start that was interrupted anywhere is completed by the next one, because each plan is made from what the service
`keys` returns. A demo key that was created but never stored (its text is shown once) is revoked and created again.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from keyforge.embedded import seeded
from keyforge.embedded.errors import SettingError
from keyforge.embedded.seeded import Credential, CredentialStep, Seeded

TENANT: Final = "demo"
KEY_NAME: Final = "demo"
KEY_CAP_USD: Final = "5"
SIMULATOR: Final = "sim"
SIMULATOR_SECRET: Final = "simulated-credential"  # noqa: S105  # opens nothing: the simulator accepts any
SECRET_CHARS_MAX: Final = 4096
"""What keys takes as a credential (`CredentialRequest`)."""


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider to register."""

    id: str
    kind: str
    base_url: str
    allow_insecure: bool = False


KNOWN: Final[Mapping[str, Provider]] = {
    "OPENAI_API_KEY": Provider("openai", "openai", "https://api.openai.com/v1"),
    "ANTHROPIC_API_KEY": Provider("anthropic", "anthropic", "https://api.anthropic.com/v1"),
    "GROQ_API_KEY": Provider("groq", "groq", "https://api.groq.com/openai/v1"),
    "MISTRAL_API_KEY": Provider("mistral", "mistral", "https://api.mistral.ai/v1"),
    "DEEPSEEK_API_KEY": Provider("deepseek", "deepseek", "https://api.deepseek.com/v1"),
    "OPENROUTER_API_KEY": Provider("openrouter", "openrouter", "https://openrouter.ai/api/v1"),
    "GEMINI_API_KEY": Provider("gemini", "gemini", "https://generativelanguage.googleapis.com/v1beta/openai"),
}
"""Which variable of the environment registers which provider; all through OpenAI-compatible endpoints. The kind decides
which price data applies."""


@dataclass(frozen=True, slots=True)
class Price:
    """Dollars per million tokens, as decimal strings."""

    model: str
    input_per_mtok: str
    output_per_mtok: str
    max_output_tokens: int


MODEL: Final = "sim-small"
"""The model of the call that the operator is shown."""
_MAX_OUTPUT_TOKENS: Final = 4096
"""The simulator's own maximum."""
_OTHER_PRICES: Final = {"sim-large": ("2.50", "10.00"), "sim-embedding": ("0.02", "0")}
_PRICE: Final = ("0.15", "0.60")


def price(model: str) -> Price:
    """Return what a model of the simulator costs: about what comparable real models do."""
    per_mtok = _OTHER_PRICES.get(model, _PRICE)
    return Price(model, *per_mtok, _MAX_OUTPUT_TOKENS)


@dataclass(frozen=True, slots=True)
class Key:
    """A virtual key as the service `keys` lists it."""

    id: str
    name: str | None
    active: bool


@dataclass(frozen=True, slots=True)
class Existing:
    """What already exists: read from `keys`, except for `stored_key` (the id of the demo key in the home)."""

    tenants: Collection[str] = ()
    keys: Collection[Key] = ()
    stored_key: str | None = None
    providers: Mapping[str, str] = field(default_factory=dict)
    """Base URL by provider id."""
    credentials: Mapping[str, Sequence[Credential]] = field(default_factory=dict)
    """By provider id, in order of addition. Revoked ones are among them: what an operator revoked stays so."""
    seeded: Collection[Seeded] = ()
    """Which of them seeding made, as the home has it."""
    models: Collection[str] = ()
    """The models of the simulator, as it lists them."""
    prices: Collection[str] = ()
    """Those of them that have a price."""


@dataclass(frozen=True, slots=True)
class CreateTenant:
    """Create the demo tenant."""


@dataclass(frozen=True, slots=True)
class RevokeKey:
    """Revoke a demo key whose text is lost."""

    id: str


@dataclass(frozen=True, slots=True)
class CreateKey:
    """Create the demo key and store it in the home."""


@dataclass(frozen=True, slots=True)
class AddProvider:
    """Register a provider, or move it to another base URL."""

    provider: Provider


@dataclass(frozen=True, slots=True)
class SetPrice:
    """Price a model of the simulator."""

    price: Price


Step = CreateTenant | RevokeKey | CreateKey | AddProvider | SetPrice | CredentialStep


def plan(existing: Existing, *, simulator_url: str, environment: Mapping[str, str], mark: bytes) -> list[Step]:
    """Return the steps that remain, in order. `mark` keys the fingerprints by which credentials are recognised."""
    simulator = Provider(SIMULATOR, "openai-compatible", simulator_url, allow_insecure=True)
    return [
        *_provider_steps(existing, simulator, "KEYFORGE_PORT_BASE", SIMULATOR_SECRET, mark),
        *(SetPrice(price(model)) for model in existing.models if model not in existing.prices),
        *_key_steps(existing),
        *(
            step
            for variable, provider in KNOWN.items()
            for step in _provider_steps(existing, provider, variable, secret_of(variable, environment), mark)
        ),
    ]


def secret_of(variable: str, environment: Mapping[str, str]) -> str:
    """Return a provider's secret, empty if there is none. Raises SettingError, whose text does not contain it."""
    secret = environment.get(variable, "").strip()
    if len(secret) > SECRET_CHARS_MAX or not all("!" <= character <= "~" for character in secret):
        raise SettingError(f"{variable} must be at most {SECRET_CHARS_MAX} printable ASCII characters without a blank")
    return secret


def _provider_steps(existing: Existing, provider: Provider, variable: str, secret: str, mark: bytes) -> list[Step]:
    """A provider that an operator has moved stays where it is, and is not given the same secret again: a credential is
    for one address. The simulator's address is ours to set."""
    steps: list[Step] = []
    address = existing.providers.get(provider.id)
    if secret and (address is None or (provider.id == SIMULATOR and address != provider.base_url)):
        steps.append(AddProvider(provider))
    wanted = seeded.quota_group(provider.id, secret, provider.base_url, mark) if secret else None
    known = [one for one in existing.seeded if one.provider == provider.id]
    credentials = existing.credentials.get(provider.id, ())
    return [*steps, *seeded.steps(provider.id, variable, wanted, secret, known=known, credentials=credentials)]


def _key_steps(existing: Existing) -> list[Step]:
    if TENANT not in existing.tenants:
        return [CreateTenant(), CreateKey()]
    if existing.stored_key is not None and any(key.id == existing.stored_key for key in existing.keys):
        return []
    lost = [key for key in existing.keys if key.name == KEY_NAME and key.active]
    return [*(RevokeKey(key.id) for key in lost), CreateKey()]
