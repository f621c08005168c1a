"""What a key may do, decided from memory: whether it is in force, which model is meant, whether it may use that."""

from datetime import datetime
from typing import Final

from keyforge.contracts.directory import KeyEntry
from keyforge.contracts.errors import Problem, problem
from keyforge.contracts.ids import ROUTE_NAME_CHARS_MAX
from keyforge.edge.core.routing.catalogue import Catalogue, Route

NAMED_MAX: Final = 4
"""Of models, in a message; `metadata` has all. Chosen: halved, of three providers one would be missing; doubled, a
message could have 2,000 characters, as a name has up to 264 (`ROUTE_NAME_CHARS_MAX`)."""


def refuse_key(key: KeyEntry, *, now: datetime) -> Problem | None:
    """Return why `key` may not be used at all, or None."""
    if key.status != "active":
        return problem("key_revoked")
    if key.expires_at is not None and key.expires_at <= now:
        return problem("key_expired")
    return None


def resolve(name: str, key: KeyEntry, catalogue: Catalogue) -> Route | Problem:
    """Return the one model that `name` means for `key`.

    A bare name of two providers is not ambiguous if the key may use only one of them.
    """
    found = catalogue.find(name)
    if not found:
        return _missing(name, catalogue)
    if key.models is not None:
        found = tuple(route for route in found if may_use(key, route))
        if not found:
            return problem("model_forbidden", param="model")
    if len(found) > 1:
        names = [route.full_name for route in found]
        message = f"More than one provider has this model: use {' or '.join(f'`{one}`' for one in names[:NAMED_MAX])}."
        return problem("model_ambiguous", message, param="model", metadata={"models": names})
    return found[0]


def may_use(key: KeyEntry, route: Route) -> bool:
    """Return whether the key's list of models (none: every priced model; empty: no model) has this one."""
    models = key.models
    return models is None or route.model in models or route.full_name in models


def usable(key: KeyEntry, catalogue: Catalogue) -> list[Route]:
    """Return every model that the key may use, in order of name."""
    routes = {route.full_name: route for found in catalogue.routes.values() for route in found if may_use(key, route)}
    return [routes[name] for name in sorted(routes)]


def _missing(name: str, catalogue: Catalogue) -> Problem:
    if len(name) <= ROUTE_NAME_CHARS_MAX and catalogue.names_provider(name):
        return problem("price_unknown", param="model")
    return problem("model_unknown", param="model")
