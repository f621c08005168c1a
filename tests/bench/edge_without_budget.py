"""Runs an edge that admits every request itself, without asking budget: what reserving costs is the difference.

    python -m tests.bench.edge_without_budget

It takes the settings of an edge. Nothing of this is in the product: no setting of an edge turns reserving off.
"""

import sys
from typing import Final

from keyforge.contracts.reserve import Answer, Reserve
from keyforge.edge.app import main
from keyforge.edge.settings import EdgeSettings
from keyforge.runtime import logs
from keyforge.runtime.serve import run

ALLOW: Final = Answer("allow")


class AllowAll:
    """`BudgetClient` in place of the partitions' owners."""

    async def ask(self, partition: int, reserve: Reserve) -> Answer:
        """Allow it."""
        del partition, reserve
        return ALLOW


if __name__ == "__main__":
    settings = EdgeSettings()  # type: ignore[call-arg]  # from the environment
    logs.configure(settings.instance, settings.log_level)
    sys.exit(run(main(settings, AllowAll())))
