"""How far a rebuild is."""

from typing import Literal

import msgspec

from keyforge.audit.core.evidence import Disagreement


class RebuildProgress(msgspec.Struct, eq=False):
    """How far a rebuild is. `identical` is None until all was compared, and if nothing could be."""

    state: Literal["none", "running", "done", "failed"] = "none"
    folded: int = 0
    messages: int = 0
    records: int = 0
    identical: bool | None = None
    differences: list[Disagreement] = msgspec.field(default_factory=list)
    kept: str = ""
    """Under which name the old tables were kept, if they were."""
    error: str = ""

    @property
    def running(self) -> bool:
        """Whether it is going on."""
        return self.state == "running"

    def fail(self, why: str) -> None:
        """End it as failed."""
        self.state, self.error = "failed", why
