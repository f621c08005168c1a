"""What can be called: every model that has a price at a registered provider, by full or bare name."""

from collections.abc import Iterable, Mapping

import msgspec

from keyforge.contracts.directory import PriceBook, PriceEntry, ProviderEntry
from keyforge.contracts.ids import ModelName, ProviderId


class Route(msgspec.Struct, frozen=True):
    """One model at one provider, with what it costs."""

    provider: ProviderId
    model: ModelName
    kind: str
    price: PriceEntry
    dialects: tuple[str, ...] = ("openai-chat",)

    @property
    def full_name(self) -> str:
        """The name that no other model has."""
        return f"{self.provider}/{self.model}"


class Catalogue(msgspec.Struct, frozen=True):
    """An unchanging view of providers and prices; a change makes a new one."""

    providers: Mapping[ProviderId, ProviderEntry]
    routes: Mapping[str, tuple[Route, ...]]
    """By full name (always one), and by bare name (one for each provider that has it). A name whose first segment is a
    provider is a full name, whatever else is called so."""

    @classmethod
    def of(cls, providers: Iterable[ProviderEntry], books: Iterable[PriceBook]) -> "Catalogue":
        """Build it. A price book of a provider that is not registered is left out."""
        registered = {entry.provider: entry for entry in providers}
        routes: dict[str, tuple[Route, ...]] = {}
        for book in sorted(books, key=lambda book: book.provider):
            entry = registered.get(book.provider)
            if entry is None:
                continue
            for model, price in book.models.items():
                route = Route(book.provider, model, entry.kind, price, entry.dialects)
                routes[model] = (*routes.get(model, ()), route)
        catalogue = cls(registered, {})
        named = {name: found for name, found in routes.items() if not catalogue.names_provider(name)}
        named |= {route.full_name: (route,) for found in routes.values() for route in found}
        return cls(registered, named)

    def find(self, name: str) -> tuple[Route, ...]:
        """Return the models that `name` can mean."""
        return self.routes.get(name, ())

    def names_provider(self, name: str) -> bool:
        """Return whether the first segment of `name` is a registered provider."""
        first, slash, _ = name.partition("/")
        return bool(slash) and first in self.providers


EMPTY = Catalogue({}, {})
