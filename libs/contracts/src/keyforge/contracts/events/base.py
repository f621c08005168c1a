"""What every event is made of: its base, aware times, and the vocabularies that events share."""

from datetime import datetime
from typing import Annotated, ClassVar, Literal

import msgspec

Moment = Annotated[datetime, msgspec.Meta(tz=True)]
"""Aware: one without a zone would mean another time on each machine that folds it, or none at all."""
Writer = Literal["ctl", "adm", "use", "platform"]

# The words that this version knows. Fields of events are open (`contracts.words`): a reader meets newer ones.
KeyStatus = Literal["active", "revoked"]
"""Of a key, a credential, an operator's token: revoked is for good."""
TenantStatus = Literal["active", "suspended"]
UsageSource = Literal["provider", "bound", "none"]
Endpoint = Literal["chat.completions", "embeddings"]
Role = Literal["platform-admin", "platform-auditor"]


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A fact. `TYPE` is its name on the wire. It is accepted only on a subject whose last word is `WRITER`."""

    TYPE: ClassVar[str] = ""
    WRITER: ClassVar[Writer] = "ctl"

    def may_hold_long_integer(self) -> bool:
        """Return whether an integer beyond 2^53 - 1 may be in it, which canonical JSON quotes. True has its text
        searched (1.3 us for 800 bytes); events of every request look at their numbers instead."""
        return True

    def containers(self) -> int:
        """Return how many objects and lists its JSON has at least, its envelope's among them: all of them for events of
        every request, so that their frames are not looked at closely (`nesting`)."""
        return 2
