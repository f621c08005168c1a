"""What keys decides about tenants and keys: what is known, a command, what comes of it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET
from msgspec.structs import replace

from keyforge.contracts.errors import Problem
from keyforge.contracts.events import KeyRevoked, KeyUpdated, TenantUpdated
from keyforge.contracts.ids import KeyId, TenantId, TokenId
from keyforge.contracts.limits import Limit
from keyforge.contracts.personal_fields import EncryptedField
from keyforge.keys.core import keys, tenants
from keyforge.keys.core.facts import Key, Placement, Tenant
from keyforge.keys.core.keys import KeyPatch, NewKey
from keyforge.keys.core.limits import NewLimit
from keyforge.keys.core.plans import PLANS
from keyforge.keys.core.tenants import NewTenant, TenantPatch
from keyforge.keys.core.token_bucket import TokenBucket
from keyforge.testkit.encrypted_names import encrypted, encrypted_field
from tests.unit.keys_outcomes import outcome

NOW = datetime(2030, 1, 1, tzinfo=UTC)
BY = TokenId("op")
USD = Limit(unit="usd", window="day", cap=5_000_000_000)
NAME = encrypted_field("Acme")
OTHER = EncryptedField(text=encrypted("other"), secret_version=2)
THIRD = EncryptedField(text=encrypted("third"), secret_version=3)
TENANT = Tenant(
    id="tenant:acme",
    version=3,
    created_at=NOW,
    updated_at=NOW,
    tenant=TenantId("acme"),
    name=NAME,
    plan="free",
    status="active",
    partition=0,
    limits=(USD,),
)
KEY = Key(
    id="key:k",
    version=2,
    created_at=NOW,
    updated_at=NOW,
    key_id=KeyId("k"),
    tenant=TenantId("acme"),
    name=NAME,
    digest="d",
    status="active",
    models=("m",),
    limits=(USD,),
    max_output_tokens=10,
    expires_at=NOW + timedelta(days=1),
)


def name_of(event: TenantUpdated | KeyUpdated) -> EncryptedField:
    """What a name is, with the version that it is under: a patch without one carries both over."""
    return EncryptedField(text=event.name, secret_version=event.secret_version)


@pytest.mark.parametrize(
    ("existing", "given", "comes"),
    [
        pytest.param(None, {}, "TenantCreated", id="new"),
        pytest.param(TENANT, {}, ("already_exists", "id"), id="taken"),
        pytest.param(None, {"plan": "free"}, "TenantCreated", id="with a plan"),
        pytest.param(None, {"plan": "gold"}, ("request_invalid", "plan"), id="no such plan"),
        pytest.param(
            None, {"limits": [NewLimit("usd", "day", "x")]}, ("request_invalid", "limits.0.cap"), id="bad limit"
        ),
    ],
)
def test_create_tenant(existing: Tenant | None, given: dict[str, Any], comes: Any) -> None:
    new = NewTenant(**{"tenant": TenantId("acme"), **given})
    assert outcome(tenants.create(existing, new, NAME, partition=1, by=BY)) == comes
    begun = tenants.settings(existing, new)
    assert (outcome(begun) == comes) if isinstance(begun, Problem) else comes == "TenantCreated"


@pytest.mark.parametrize(
    ("patch", "live", "comes"),
    [
        pytest.param({}, 0, {}, id="nothing given, nothing changed"),
        pytest.param({"name": OTHER}, 0, {"name": OTHER}, id="name"),
        pytest.param({"plan": None}, 9, {"plan": "default"}, id="plan cleared is the default"),
        pytest.param({"limits": None}, 0, {"limits": ()}, id="limits cleared"),
        pytest.param({"limits": []}, 0, {"limits": ()}, id="no limits"),
        pytest.param({"status": "suspended"}, 0, {"status": "suspended"}, id="suspended"),
        pytest.param({"plan": "free"}, 9, {}, id="the plan it has, though it is over"),
    ],
)
def test_update_tenant(patch: dict[str, Any], live: int, comes: dict[str, Any]) -> None:
    rest = {field: value for field, value in patch.items() if field != "name"}
    updated = tenants.update(TENANT, TenantPatch(**rest), name=patch.get("name"), keys_live=live, by=BY)
    if not comes:
        assert updated is None
        return
    assert isinstance(updated, TenantUpdated)
    as_was = {"name": NAME, "plan": "free", "status": "active", "limits": (USD,)}
    found = {field: getattr(updated, field) for field in as_was}
    assert found | {"name": name_of(updated)} == as_was | comes
    assert updated.revision == 4


def test_a_tenants_id_is_claimed_once_and_for_the_least_loaded_partition() -> None:
    placed = tenants.place(None, TenantId("acme"), loads={0: 2, 1: 1, 2: 1}, by=BY)
    assert placed is not None
    assert (placed.tenant, placed.partition) == ("acme", 1)
    claim = Placement(
        id="placement:acme", version=1, created_at=NOW, updated_at=NOW, tenant=TenantId("acme"), partition=2
    )
    assert tenants.place(claim, TenantId("acme"), loads={0: 0, 1: 0, 2: 9}, by=BY) is None


def test_a_smaller_plan_must_fit() -> None:
    roomy, smaller = replace(TENANT, plan="default"), TenantPatch(plan="free")
    assert outcome(tenants.update(roomy, smaller, name=None, keys_live=4, by=BY)) == ("plan_exceeded", "plan")
    assert outcome(tenants.update(roomy, smaller, name=None, keys_live=3, by=BY)) == "TenantUpdated"
    assert outcome(tenants.update(None, TenantPatch(), name=None, keys_live=0, by=BY)) == ("not_found", None)


@pytest.mark.parametrize(
    ("tenant", "live", "given", "comes"),
    [
        pytest.param(TENANT, 2, {}, "KeyCreated", id="the last that fits"),
        pytest.param(TENANT, 3, {}, ("plan_exceeded", None), id="one too many"),
        pytest.param(None, 0, {}, ("not_found", None), id="no tenant"),
        pytest.param(TENANT, 0, {"expires_at": NOW}, ("request_invalid", "expires_at"), id="born dead"),
        pytest.param(TENANT, 0, {"expires_at": NOW + timedelta(seconds=1)}, "KeyCreated", id="short-lived"),
        pytest.param(TENANT, 0, {"models": ()}, "KeyCreated", id="may use no model"),
    ],
)
def test_create_key(tenant: Tenant | None, live: int, given: dict[str, Any], comes: Any) -> None:
    new = NewKey(**given)
    made = keys.create(tenant, new, NAME, keys_live=live, key_id=KeyId("k"), digest="d", by=BY, now=NOW)
    assert outcome(made) == comes


@pytest.mark.parametrize("plan", PLANS)
def test_no_order_of_creations_exceeds_a_plan(plan: str) -> None:
    tenant, live = replace(TENANT, plan=plan), PLANS[plan].keys_max
    made = keys.create(tenant, NewKey(), NAME, keys_live=live, key_id=KeyId("k"), digest="d", by=BY, now=NOW)
    assert outcome(made) == ("plan_exceeded", None)


def update_key(key: Key | None, patch: dict[str, Any]) -> KeyUpdated | Problem | None:
    rest = {field: value for field, value in patch.items() if field != "name"}
    return keys.update(key, KeyPatch(**rest), name=patch.get("name"), by=BY, now=NOW)


POLICY = ("name", "models", "limits", "max_output_tokens", "expires_at")


@pytest.mark.parametrize(
    ("patch", "comes"),
    [
        pytest.param({}, {}, id="nothing given"),
        pytest.param({"models": None}, {"models": None}, id="every model"),
        pytest.param({"models": ()}, {"models": ()}, id="no model"),
        pytest.param({"max_output_tokens": None}, {"max_output_tokens": None}, id="no bound on output"),
        pytest.param({"expires_at": None}, {"expires_at": None}, id="no expiry"),
        pytest.param({"limits": None}, {"limits": ()}, id="no limits"),
        pytest.param({"name": OTHER}, {"name": OTHER}, id="name"),
    ],
)
def test_update_key(patch: dict[str, Any], comes: dict[str, Any]) -> None:
    updated = update_key(KEY, patch)
    if not comes:
        assert updated is None
        return
    assert isinstance(updated, KeyUpdated)
    found = {field: getattr(updated, field) for field in POLICY} | {"name": name_of(updated)}
    assert found == {f: getattr(KEY, f) for f in POLICY} | comes
    assert updated.revision == 3


@pytest.mark.parametrize(
    ("known", "patch", "comes"),
    [
        pytest.param(KEY, {"expires_at": NOW - timedelta(seconds=1)}, ("request_invalid", "expires_at"), id="past"),
        pytest.param(KEY, {"expires_at": NOW}, ("request_invalid", "expires_at"), id="this very moment"),
        pytest.param(KEY, {"expires_at": NOW + timedelta(microseconds=1)}, "KeyUpdated", id="future"),
        pytest.param(replace(KEY, expires_at=NOW), {"name": OTHER}, "KeyUpdated", id="expired, and not changed"),
        pytest.param(KEY, {"limits": [NewLimit("usd", "day", 5)]}, ("request_invalid", "limits.0.cap"), id="bad limit"),
    ],
)
def test_what_a_patch_may_set(known: Key, patch: dict[str, Any], comes: Any) -> None:
    assert outcome(update_key(known, patch)) == comes


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "name": st.sampled_from([OTHER, THIRD]),
            "models": st.none() | st.lists(st.sampled_from("ab"), max_size=2).map(tuple),
            "max_output_tokens": st.none() | st.integers(1, 3),
            "expires_at": st.none() | st.just(NOW + timedelta(days=2)),
        },
    )
)
def test_a_patch_changes_what_it_names_and_nothing_else(patch: dict[str, Any]) -> None:
    updated = update_key(KEY, patch)
    assert not isinstance(updated, Problem)
    for field in POLICY:
        found = KEY.name if updated is None else name_of(updated)
        assert (found if field == "name" else getattr(updated or KEY, field)) == patch.get(field, getattr(KEY, field))


def test_revoked_is_for_good() -> None:
    ended = replace(KEY, status="revoked")
    revoked = keys.revoke(KEY, reason=OTHER, by=BY)
    assert isinstance(revoked, KeyRevoked)
    assert (revoked.reason, revoked.secret_version, revoked.revision) == (OTHER.text, OTHER.secret_version, 3)
    silent = keys.revoke(KEY, reason=None, by=BY)
    assert isinstance(silent, KeyRevoked)
    assert (silent.reason, silent.secret_version) == (None, None)
    assert keys.revoke(ended, reason=OTHER, by=BY) is None
    assert outcome(update_key(ended, {"name": OTHER})) == ("already_revoked", None)
    assert outcome(keys.revoke(None, reason=None, by=BY)) == ("not_found", None)
    assert outcome(update_key(None, {})) == ("not_found", None)


def test_a_token_bucket_fills_with_time() -> None:
    bucket = TokenBucket.full(per_s=2, burst=3, now=0.0)
    assert [bucket.take(0.0) for _ in range(4)] == [0, 0, 0, 0.5]
    assert bucket.take(0.5) == 0
    assert bucket.take(0.4) > 0
    assert [bucket.take(100.0) for _ in range(4)][-1] > 0


def test_a_clock_that_goes_back_takes_nothing_from_a_token_bucket() -> None:
    bucket = TokenBucket.full(per_s=2, burst=3, now=100.0)
    assert [bucket.take(now) for now in (100.0, 0.0, 0.0)] == [0, 0, 0]


def test_unset_is_not_none() -> None:
    assert KeyPatch().models is UNSET
    assert KeyPatch(models=None).models is None
