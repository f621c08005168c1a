"""What a key may do and which model it means; how a request's end is recorded."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from keyforge.contracts.directory import KeyEntry, PriceBook, PriceEntry, ProviderEntry
from keyforge.contracts.errors import CATALOGUE, Problem
from keyforge.contracts.events import Attempt, RequestCancelled, RequestCompleted
from keyforge.contracts.ids import CredentialId, EdgeId, KeyId, ModelName, PriceId, ProviderId, RequestId, TenantId
from keyforge.contracts.reserve import Answer
from keyforge.contracts.usage import UnitPrices, Usage
from keyforge.edge.core.dialects.registry import ROUTES
from keyforge.edge.core.lru import Lru
from keyforge.edge.core.routing import policy
from keyforge.edge.core.routing.catalogue import Catalogue
from keyforge.edge.core.settlement import refusal_answers
from keyforge.edge.core.settlement.commitment import TenantKey
from keyforge.edge.core.settlement.outcome import ATTEMPTS_MAX, Outcome
from keyforge.edge.core.settlement.refusal_counter import KEYS_MAX, RefusalCounter

NOW = datetime(2030, 1, 1, tzinfo=UTC)
FREE = UnitPrices(
    input_nusd=0, cache_read_nusd=0, cache_write_nusd=0, cache_write_1h_nusd=0, input_audio_nusd=0, output_nusd=0,
    reasoning_nusd=0, output_audio_nusd=0,
)  # fmt: skip


def key(models: tuple[str, ...] | None = None, name: str = "k", **changed: Any) -> KeyEntry:
    fields: dict[str, Any] = {
        "key_id": KeyId(name), "tenant": TenantId("t"), "partition": 3, "digest": "", "status": "active",
        "models": models, "max_output_tokens": None, "expires_at": None, "revision": 1,
    }  # fmt: skip
    return KeyEntry(**(fields | changed))


def catalogue(**models: list[str]) -> Catalogue:
    price = PriceEntry(price_id=PriceId("p"), prices=FREE, max_output_tokens=None, context_tokens=None)
    return Catalogue.of(
        [
            ProviderEntry(
                provider=ProviderId(name), kind="openai", base_url="https://x", allow_insecure=False, revision=1
            )
            for name in models
            if name != "gone"
        ],
        [
            PriceBook(provider=ProviderId(name), models=dict.fromkeys(map(ModelName, known), price))
            for name, known in models.items()
        ],
    )


MODELS = catalogue(
    openai=["gpt", "both"],
    other=["both", "openai/gpt", "openai/lent", "openai/a/b"],
    router=["other/both", "meta/llama"],
    gone=["lost"],
)


@pytest.mark.parametrize(
    ("entry", "type_"),
    [
        (key(), None),
        (key(status="revoked"), "key_revoked"),
        (key(expires_at=NOW), "key_expired"),
        (key(expires_at=NOW + timedelta(seconds=1)), None),
        (key(status="revoked", expires_at=NOW), "key_revoked"),
    ],
)
def test_keys_in_force(entry: KeyEntry, type_: str | None) -> None:
    found = policy.refuse_key(entry, now=NOW)
    assert (found and found.kind.type) == type_


RESOLVED: list[Any] = [
    pytest.param("gpt", None, "openai/gpt", id="bare"),
    pytest.param("openai/gpt", None, "openai/gpt", id="full"),
    pytest.param("other/openai/gpt", None, "other/openai/gpt", id="full, of a name with a slash"),
    pytest.param("meta/llama", None, "router/meta/llama", id="bare with a slash: the first segment is no provider"),
    pytest.param("router/meta/llama", None, "router/meta/llama", id="full with two slashes"),
    pytest.param("other/both", None, "other/both", id="a provider's name comes before a bare name that reads the same"),
    pytest.param("both", None, "model_ambiguous", id="two providers"),
    pytest.param("both", ("openai/both",), "openai/both", id="two providers, the key may use one"),
    pytest.param("both", ("both",), "model_ambiguous", id="two providers, the key may use both"),
    pytest.param("nope", None, "model_unknown", id="unknown"),
    pytest.param("lost", None, "model_unknown", id="of a provider that is not registered"),
    pytest.param("gone/lost", None, "model_unknown", id="of a provider that is not registered, full"),
    pytest.param("openai/new", None, "price_unknown", id="no price"),
    pytest.param("openai/lent", None, "price_unknown", id="no price, and another has a model that is called so"),
    pytest.param("openai/a/b", None, "price_unknown", id="the same, of a name with two slashes"),
    pytest.param("other/openai/lent", None, "other/openai/lent", id="that one, by its full name"),
    pytest.param("", None, "model_unknown", id="empty"),
    pytest.param("/", None, "model_unknown", id="a slash"),
    pytest.param("openai/" + "x" * 9_000, None, "model_unknown", id="too long"),
    pytest.param("gpt", (), "model_forbidden", id="an empty list is none"),
    pytest.param("gpt", ("both",), "model_forbidden", id="another model"),
    pytest.param("gpt", ("gpt",), "openai/gpt", id="allowed by its bare name"),
    pytest.param("gpt", ("openai/gpt",), "openai/gpt", id="allowed by its full name"),
    pytest.param("gpt", ("openai/*", "g*", "GPT"), "model_forbidden", id="names are exact"),
]


@pytest.mark.parametrize(("name", "models", "outcome"), RESOLVED)
def test_resolve(name: str, models: tuple[str, ...] | None, outcome: str) -> None:
    found = policy.resolve(name, key(models), MODELS)
    assert (found.kind.type if isinstance(found, Problem) else found.full_name) == outcome


def test_an_ambiguous_name_is_refused_with_the_names_to_use() -> None:
    found = policy.resolve("both", key(), MODELS)
    assert isinstance(found, Problem)
    assert found.metadata is not None
    assert [f"`{name}`" in found.message for name in found.metadata["models"]] == [True, True]


def test_usable_lists_each_model_once() -> None:
    names = [route.full_name for route in policy.usable(key(), MODELS)]
    assert names == sorted(set(names))
    assert len(names) == 8
    assert policy.usable(key(()), MODELS) == []


# --- ends ---


def outcome() -> Outcome:
    return Outcome(RequestId("r"), key(), EdgeId("e"), NOW, 60, 1)


def attempt(status: int, *, sent: bool = True) -> Attempt:
    return Attempt(credential=CredentialId("c"), status=status, sent=sent, duration_ms=1)


def test_what_was_never_sent_is_cancelled() -> None:
    one = outcome()
    one.tried(attempt(0, sent=False))
    one.unsent("upstream_refused")
    event = one.event(5)
    assert isinstance(event, RequestCancelled)
    assert (event.reason, event.deadline) == ("upstream_refused", NOW + timedelta(seconds=60))


def test_what_was_sent_and_got_no_answer_counts_as_spent() -> None:
    one = outcome()
    one.tried(attempt(0))
    one.unknown("upstream_cut")
    event = one.event(5)
    assert isinstance(event, RequestCompleted)
    assert (event.usage, event.usage_source) == (None, "bound")


def test_attempts_that_are_recorded_are_bounded() -> None:
    one = outcome()
    for _ in range(ATTEMPTS_MAX + 5):
        one.tried(attempt(429))
    event = one.event(5)
    assert isinstance(event, RequestCompleted)
    assert len(event.attempts) == ATTEMPTS_MAX


def test_what_was_refused_costs_nothing_even_if_the_next_call_failed_before_it_was_sent() -> None:
    one = outcome()
    one.tried(attempt(429))
    one.refused_by_provider("upstream_rate_limited", 429)
    one.tried(attempt(0, sent=False))
    one.unsent("upstream_refused")
    event = one.event(5)
    assert isinstance(event, RequestCompleted)
    assert (event.usage, event.usage_source, len(event.attempts)) == (Usage(), "none", 2)


def test_a_first_call_under_way_at_the_end_may_have_been_billed() -> None:
    one = outcome()
    one.calling = True
    event = one.event(5)
    assert isinstance(event, RequestCompleted)
    assert (event.usage, event.usage_source, event.attempts) == (None, "bound", ())


def test_a_call_under_way_at_the_end_is_not_known() -> None:
    one = outcome()
    one.tried(attempt(429))
    one.refused_by_provider("upstream_rate_limited", 429)
    one.calling = True
    event = one.event(5)
    assert isinstance(event, RequestCompleted)
    assert (event.usage, event.usage_source) == (None, "bound")


def test_refusals_are_one_event_a_key_and_tick() -> None:
    refusals = RefusalCounter(EdgeId("e"))
    for number in range(5):
        assert refusals.count(key(), RequestId(f"r{number}"), "rate_limited")
    refusals.count(key(), RequestId("r9"), "budget_exceeded")
    refusals.count(key(name="other"), RequestId("r10"), "model_unknown")
    due = refusals.due()
    assert [(one.event.key_id, one.event.request_id, one.event.reason, one.event.count) for one in due] == [
        ("k", "r0", "rate_limited", 5),
        ("other", "r10", "model_unknown", 1),
    ]
    assert due[0].partition == 3
    assert [(one.event.reason, one.event.count) for one in refusals.rest()] == [("budget_exceeded", 1)]
    assert refusals.due() == []


def test_refusals_are_bounded() -> None:
    refusals = RefusalCounter(EdgeId("e"))
    assert all(refusals.count(key(name=str(number)), RequestId("r"), "x") for number in range(KEYS_MAX))
    assert not refusals.count(key(name="more"), RequestId("r"), "x")


@pytest.mark.parametrize(
    ("type_", "scope", "unit", "window", "named"),
    [
        ("budget_exceeded", "key", "usd", "day", "the key's, on usd per day."),
        ("budget_exceeded", "tenant", "usd", "total", "the tenant's, on usd in total."),
        ("rate_limited", "key", "requests", "minute", "the key's, on requests per minute."),
        ("tokens_limited", "tenant", "tokens", "hour", "the tenant's, on tokens per hour."),
        ("concurrency_limited", "key", "concurrency", "total", "the key's, on concurrency."),
        ("quota_exceeded", "key", "requests", "month", "the key's, on requests per month."),
    ],
)
def test_the_message_of_a_limit_says_which(type_: str, scope: str, unit: str, window: str, named: str) -> None:
    wrong = refusal_answers.refusal(Answer("refuse", type_, scope=scope, unit=unit, window=window))
    assert wrong.message == f"{CATALOGUE[type_].message} The limit is {named}"


def test_refusals_of_budget_carry_what_they_are_about() -> None:
    wrong = refusal_answers.refusal(Answer("refuse", "budget_exceeded", scope="key", unit="usd", window="day"))
    assert wrong.metadata == {"scope": "key", "unit": "usd", "window": "day"}
    wrong = refusal_answers.refusal(Answer("refuse", "rate_limited", retry_after_s=9))
    assert ("retry-after", "9") in wrong.headers()
    wrong = refusal_answers.refusal(Answer("refuse", "idempotency_conflict", first_request="r", first_state="open"))
    assert wrong.metadata == {"request_id": "r", "state": "open"}
    assert refusal_answers.refusal(Answer("refuse", "gibberish")).kind is CATALOGUE["internal"]


def test_commitments_bind_and_hide() -> None:
    import hashlib
    import hmac

    secret = bytes(range(32))
    made = TenantKey(1, secret).of(RequestId("r1"))
    key = hmac.digest(secret, b"keyforge/tenant-secret/v1\0commitment", "sha256")
    salt = hmac.digest(key, b"r1", "sha256")
    assert made.of_request(b"body") == hashlib.sha256(salt[:16] + b"body").hexdigest()
    assert made.of_response(b"body") == hashlib.sha256(salt[16:] + b"body").hexdigest()
    stream = made.of_stream()
    stream.update(b"bo")
    stream.update(b"dy")
    assert stream.hexdigest() == made.of_response(b"body")
    assert TenantKey(1, secret).of(RequestId("r2")).of_request(b"body") != made.of_request(b"body")
    assert TenantKey(1, bytes(32)).of(RequestId("r1")).of_request(b"body") != made.of_request(b"body")


def test_a_fingerprint_is_the_specs_and_says_nothing_to_another_tenant() -> None:
    import hmac

    secret = bytes(range(32))
    key = hmac.digest(secret, b"keyforge/tenant-secret/v1\0fingerprint", "sha256")
    expected = hmac.digest(key, b"idempotency\0k1\0order 7", "sha256").hex()
    assert TenantKey(1, secret).idempotency_hash(KeyId("k1"), b"order 7") == expected
    assert TenantKey(1, bytes(32)).idempotency_hash(KeyId("k1"), b"order 7") != expected


def test_recent_forgets_the_least_used() -> None:
    recent: Lru[str, int] = Lru(2)
    recent.put("a", 1)
    recent.put("b", 2)
    assert recent.get("a") == 1
    recent.put("c", 3)
    assert (recent.get("a"), recent.get("b"), recent.get("c"), len(recent)) == (1, None, 3, 2)
    recent.drop("a")
    assert recent.get("a") is None


@pytest.mark.parametrize(
    ("scope", "path", "status"),
    [("key", "/v1", 402), ("key", "/api/v1", 403), ("tenant", "/v1", 402), ("tenant", "/api/v1", 402)],
)
def test_a_keys_own_cap_is_refused_as_at_openrouter_on_its_routes(scope: str, path: str, status: int) -> None:
    for endpoint in ("chat/completions", "embeddings"):
        shape = ROUTES[f"{path}/{endpoint}"].errors
        wrong = refusal_answers.refusal(Answer("refuse", "budget_exceeded", scope=scope, unit="usd"), shape=shape)
        assert (wrong.kind.status, wrong.kind.type) == (status, "budget_exceeded")
        assert ("x-should-retry", "false") in wrong.headers()
