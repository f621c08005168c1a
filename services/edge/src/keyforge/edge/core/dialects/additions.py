"""What we add to requests, and what of it we no longer add where a provider refused it.

A cap on the output, its name, and the wish to learn a stream's usage are ours where the agent did not send them. A
provider that refuses one of them would refuse every request of its kind: the request is sent once more without it, and
what was conceded is remembered for the model, so that later requests do not pay for it. The cap itself always stays.
"""

from datetime import datetime, timedelta
from typing import Final

import msgspec

from keyforge.edge.core.dialects.quirks import CapField
from keyforge.edge.core.lru import Lru

OUTPUT_TOKENS_DEFAULT: Final = 32_000
"""What a request that names no maximum may write at most, if neither its key nor its model has a lower one. Precedent:
what coding agents ask for (Claude Code); 4,096 cut the answers of models that think."""
TRIED_AGAIN: Final = timedelta(hours=1)
"""How long a concession is remembered. Chosen: one request an hour pays for a call that is refused, which costs
nothing; halved, two do; doubled, a provider that has learned a field goes unnoticed for two hours."""
REMEMBERED_MAX: Final = 4_096
"""Models with a concession. Chosen: eight times what OpenRouter lists; each takes some 300 bytes."""
CONCEDED_MAX: Final = 3
"""How often one request is sent once more, as there are three things to concede."""


class Concessions(msgspec.Struct, frozen=True):
    """What a provider made us concede for one model.

    `cap_field`: what the cap must be called. `asks_usage`: a stream may be asked for its usage. `cap_max`: the most
    that it takes as a cap, for requests that name none; `cap_max_lasts`: for every such request, and not for one whose
    prompt leaves so little room in the model's context. `lasts`: any of it may be remembered.
    """

    cap_field: CapField | None = None
    asks_usage: bool = True
    cap_max: int | None = None
    cap_max_lasts: bool = True
    lasts: bool = True

    def lasting(self) -> "Concessions":
        """Return what of it holds for other requests as well."""
        if not self.lasts:
            return NOTHING
        return self if self.cap_max_lasts else Concessions(self.cap_field, self.asks_usage)


NOTHING: Final = Concessions()


class Additions:
    """What an edge adds, and the concessions that it has made, by model: bounded, in memory."""

    __slots__ = ("_conceded", "_learned", "output_tokens_default")

    def __init__(self, output_tokens_default: int = OUTPUT_TOKENS_DEFAULT) -> None:
        self.output_tokens_default = output_tokens_default
        self._conceded: Lru[tuple[str, str], tuple[Concessions, datetime]] = Lru(REMEMBERED_MAX)
        self._learned = False
        """Whether anything was ever conceded; with most providers nothing is."""

    def conceded(self, provider: str, model: str, now: datetime) -> Concessions:
        """Return what was conceded for a model, and not so long ago that it is tried again."""
        if not self._learned:
            return NOTHING
        found = self._conceded.get((provider, model))
        if found is None:
            return NOTHING
        conceded, until = found
        if now < until:
            return conceded
        self._conceded.drop((provider, model))
        return NOTHING

    def remember(self, provider: str, model: str, conceded: Concessions, now: datetime) -> None:
        """Keep what a provider took a request with, after it had refused it with more."""
        if (lasting := conceded.lasting()) != NOTHING:
            self._learned = True
            self._conceded.put((provider, model), (lasting, now + TRIED_AGAIN))
