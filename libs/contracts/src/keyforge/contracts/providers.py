"""How a provider can be spoken to: the vocabularies that `keys` takes and an edge implements."""

from typing import Final, Literal, get_args

Dialect = Literal["openai-chat"]
"""What providers speak. An edge that lacks one cannot call a provider that has no other."""
Auth = Literal["bearer", "x-api-key", "api-key"]
"""Which header carries a credential: `Authorization: Bearer`, or one of these by its name."""

DIALECTS: Final[tuple[Dialect, ...]] = get_args(Dialect)
