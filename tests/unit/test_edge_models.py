"""Which models a key is shown: what it may use and what could be called at all."""

import json
from typing import Any

import msgspec
import pytest

from keyforge.contracts.directory import KeyEntry, PriceBook, PriceEntry, ProviderEntry
from keyforge.contracts.ids import ModelName, PriceId, ProviderId
from keyforge.edge.application.callers import Callers
from keyforge.edge.application.models import ModelList
from keyforge.edge.core.routing.catalogue import Catalogue
from keyforge.edge.core.routing.credential_pool import CredentialPool
from keyforge.edge.core.routing.origin import ProviderAddress
from keyforge.edge.core.settlement.refusal_counter import RefusalCounter
from keyforge.edge.metrics import Metrics
from keyforge.runtime.clock import SystemClock
from tests.unit.edge_twins import EDGE, FREE, KEY, PROVIDER, Agent, Keys, Registry

MODEL = f"{PROVIDER}/m"


class Lacking(Registry):
    """A registry whose provider lacks one thing."""

    def __init__(self, lacks: str = "") -> None:
        super().__init__(*([] if lacks == "credential" else [("a", "g")]))
        self._lacks = lacks
        dialects = ("morse", "smoke") if lacks == "dialect" else ("morse", "openai-chat")
        providers = [
            ProviderEntry(
                provider=ProviderId(name),
                kind="x",
                base_url="https://x",
                allow_insecure=False,
                revision=1,
                dialects=dialects,
            )
            for name in (PROVIDER, "two")
        ]
        price = PriceEntry(price_id=PriceId("p"), prices=FREE, max_output_tokens=None, context_tokens=None)
        books = {PROVIDER: ["m", "twice"], ProviderId("two"): ["other", "twice"]}
        self.catalogue = Catalogue.of(
            providers,
            [
                PriceBook(provider=name, models=dict.fromkeys(map(ModelName, book), price))
                for name, book in books.items()
            ],
        )

    def address(self, provider: ProviderId) -> ProviderAddress | None:
        return None if self._lacks == "address" else super().address(PROVIDER)

    def pool(self, provider: ProviderId) -> CredentialPool:
        return super().pool(PROVIDER)


async def asked(lacks: str = "", name: str = "", **policy: Any) -> tuple[int, Any]:
    key: KeyEntry = msgspec.structs.replace(KEY, **policy)
    callers, agent = Callers(Keys(key), RefusalCounter(EDGE), Metrics()), Agent()
    await ModelList(callers, Lacking(lacks), SystemClock()).serve(agent, name)
    found = json.loads(agent.answered)
    if agent.status != 200:
        return agent.status, found["error"]["type"]
    return 200, [one["id"] for one in found["data"]] if not name else found["id"]


async def test_what_can_be_called_is_listed() -> None:
    assert await asked() == (200, [MODEL, f"{PROVIDER}/twice", "two/other", "two/twice"])
    assert await asked(models=("m", "nothing")) == (200, [MODEL])
    assert await asked(models=()) == (200, [])


@pytest.mark.parametrize("lacks", ["credential", "address", "dialect"])
async def test_what_cannot_be_called_is_neither_listed_nor_shown(lacks: str) -> None:
    assert await asked(lacks) == (200, [])
    for name in (MODEL, "m"):
        assert await asked(lacks, name) == (404, "model_unknown")


@pytest.mark.parametrize(
    ("name", "models", "answer"),
    [
        (MODEL, None, (200, MODEL)),
        ("m", None, (200, MODEL)),
        ("twice", None, (400, "model_ambiguous")),
        ("twice", ("two/twice",), (200, "two/twice")),
        ("two/twice", None, (200, "two/twice")),
        (MODEL, ("other",), (404, "model_unknown")),
        ("nothing", None, (404, "model_unknown")),
        (f"{PROVIDER}/nothing", None, (404, "model_unknown")),
    ],
)
async def test_one_model_is_shown_by_its_full_or_bare_name(
    name: str, models: tuple[str, ...] | None, answer: tuple[int, str]
) -> None:
    assert await asked(name=name, models=models) == answer


async def test_a_key_that_is_not_in_force_is_shown_nothing() -> None:
    for name in ("", MODEL):
        assert await asked(name=name, status="revoked") == (401, "key_revoked")
