"""Settings of budget: KEYFORGE_* variables, typed, with unit and default."""

from typing import Annotated

from pydantic import Field

from keyforge.runtime.settings import ServiceSettings


class BudgetSettings(ServiceSettings):
    """The shared settings, and what is budget's own."""

    port: Annotated[int, Field(ge=1, le=65535)] = 8082
    instance: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")] = "budget-0"
    nats_user: str = "budget"
    abandon_grace_s: Annotated[float, Field(ge=1, le=600)] = 10.0
    """How long past its deadline a request may stay open before it counts as spent; the edge cuts at the deadline."""
    ask_age_s_max: Annotated[float, Field(gt=0, le=60)] = 2.0
    """How long a reserve may wait here. Edges wait 2 s for an answer: an older ask is dropped unanswered."""
    asks_waiting_max: Annotated[int, Field(ge=1, le=1_000_000)] = 8192
    """Reserves that may wait for one partition's next frame; beyond it they are refused."""
