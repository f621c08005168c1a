"""What a provider's `kind` stands for: its dialects, its price data, its way of authentication."""

from collections.abc import Mapping
from typing import Final

import msgspec

from keyforge.contracts.providers import Auth, Dialect


class Preset(msgspec.Struct, frozen=True):
    """What is filled in where a registration does not name it. `price_feed`: its name in genai-prices; None: no prices
    but an operator's."""

    price_feed: str | None = None
    dialects: tuple[Dialect, ...] = ("openai-chat",)
    auth: Auth = "bearer"


OTHER: Final = Preset()
"""Any other provider that is compatible with OpenAI."""

PRESETS: Final[Mapping[str, Preset]] = {
    "openai": Preset("openai"),
    "anthropic": Preset("anthropic"),
    "groq": Preset("groq"),
    "mistral": Preset("mistral"),
    "deepseek": Preset("deepseek"),
    "openrouter": Preset("openrouter"),
    "google": Preset("google"),
    "gemini": Preset("google"),
}
"""By kind. A provider of another kind has the price data of its id, if there is any."""


def preset_of(kind: str, provider: str) -> Preset:
    """Return what a provider of this kind and id has unless its registration says otherwise."""
    if (found := PRESETS.get(kind)) is not None:
        return found
    named = PRESETS.get(provider)
    return OTHER if named is None else msgspec.structs.replace(OTHER, price_feed=named.price_feed)
