"""Plans are data: what a tenant may have. A tenant without another plan has `default`."""

from typing import Final

import msgspec


class Plan(msgspec.Struct, frozen=True):
    """What one plan allows. `keys_max`: keys that are not revoked."""

    keys_max: int


DEFAULT: Final = "default"

PLANS: Final[dict[str, Plan]] = {
    "free": Plan(keys_max=3),
    DEFAULT: Plan(keys_max=10_000),
}
