"""How the suite is dealt to workers: as a whole to one per core, a part of it that is named to none."""

import pytest


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Return 0 for a named part: it starts at once, in this process. `-n 2` deals that as well, `-n 0` nothing."""
    return 0 if config.args_source is pytest.Config.ArgsSource.ARGS else None
