"""Tenants and their keys: what can be asked and what can be changed. The rules are in `core`."""

import os
from collections.abc import Callable
from datetime import datetime
from typing import Final

import msgspec

from keyforge.contracts import keyformat
from keyforge.contracts.errors import Problem, problem
from keyforge.contracts.ids import KeyId, ModelName, ProviderId, TenantId, TokenId
from keyforge.contracts.keyformat import KeySecrets
from keyforge.keys.application.commits import Command, Commits, F, Known, all_of, as_a
from keyforge.keys.application.ports import PLATFORM, Decided
from keyforge.keys.core import facts, keys, tenants
from keyforge.keys.core.facts import Key, Placement, Resumption, Tenant
from keyforge.keys.core.keys import KeyPatch, NewKey
from keyforge.keys.core.tenants import NewTenant, TenantPatch
from keyforge.keys.core.token_bucket import Pace
from keyforge.runtime.clock import Clock

WRITES_PER_S: Final = 20.0
WRITES_BURST: Final = 100.0
"""Changes of one tenant: each makes its partition's owner fold before it admits, for other tenants' requests too.
Revoking is never held up."""


class IssuedKey(msgspec.Struct, frozen=True):
    """A key that was just made. `text` is shown this once and kept nowhere."""

    key: Key
    text: str


class Tenancy:
    """Commands and look-ups about tenants and keys."""

    def __init__(
        self,
        commits: Commits,
        secrets: KeySecrets,
        clock: Clock,
        *,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._commits = commits
        self._secrets = secrets
        self._clock = clock
        self._entropy = entropy
        self._paces: dict[str, Pace] = {}

    def tenant(self, tenant: str) -> Tenant | None:
        """Return a tenant."""
        id_ = facts.tenant_id(tenant)
        for partition in self._commits.partitions:
            found = as_a(Tenant, self._commits.book(partition).committed(id_))
            if found is not None:
                return found
        return None

    def tenants(self, *, after: str, limit: int) -> list[Tenant]:
        """Return tenants in the order of their ids, those behind `after`."""
        found = [
            tenant
            for partition in self._commits.partitions
            for tenant in all_of(Tenant, self._commits.book(partition).listed(facts.TENANTS))
            if tenant.tenant > after
        ]
        return sorted(found, key=lambda tenant: tenant.tenant)[:limit]

    def key(self, tenant: str, key: str) -> Key | None:
        """Return a key of a tenant."""
        owner = self.tenant(tenant)
        if owner is None:
            return None
        found = as_a(Key, self._commits.book(owner.partition).committed(facts.key_id(key)))
        return found if found is not None and found.tenant == tenant else None

    def keys(self, tenant: str, *, after: str, limit: int) -> list[Key] | None:
        """Return a tenant's keys as they were created, those behind `after`; None if there is no such tenant."""
        owner = self.tenant(tenant)
        if owner is None:
            return None
        book = self._commits.book(owner.partition)
        return all_of(Key, book.listed(facts.keys_of(tenant), after=after and facts.key_id(after), limit=limit))

    async def create_tenant(self, ask: NewTenant, *, by: TokenId) -> Tenant | Problem:
        """Make a tenant in the least loaded partition.

        Its id is claimed first, on the platform's subject: partitions have no order among them, so only a claim keeps
        two services from making it in two. Whoever asks again finishes what a claimant that died has begun.
        """
        refused = tenants.create(self.tenant(ask.tenant), ask, partition=0, by=by)
        if isinstance(refused, Problem):
            return refused  # before an id is claimed for it
        placement = await self._place(ask.tenant, by=by)
        if isinstance(placement, Problem):
            return placement
        id_, partition = facts.tenant_id(ask.tenant), placement.partition

        def decide(known: Known, _: datetime) -> Decided:
            return tenants.create(known.get(Tenant, id_), ask, partition=partition, by=by)

        return await self._commits.do(partition, Tenant, id_, decide)

    async def update_tenant(self, tenant: str, patch: TenantPatch, *, by: TokenId) -> Tenant | Problem:
        """Change a tenant."""
        id_, shelf = facts.tenant_id(tenant), facts.keys_of(tenant)

        def decide(known: Known, _: datetime) -> Decided:
            return tenants.update(known.get(Tenant, id_), patch, keys_live=known.live(shelf), by=by)

        return await self._do(tenant, Tenant, id_, decide)

    async def resume_model(
        self, tenant: str, provider: ProviderId, model: ModelName, *, by: TokenId
    ) -> Resumption | Problem:
        """Lift the freeze that an overrun put on a model."""
        id_ = facts.tenant_id(tenant)

        def decide(known: Known, _: datetime) -> Decided:
            return tenants.resume_model(known.get(Tenant, id_), provider, model, by=by)

        return await self._do(tenant, Resumption, facts.resumption_id(tenant, provider, model), decide)

    async def create_key(self, tenant: str, ask: NewKey, *, by: TokenId) -> IssuedKey | Problem:
        """Issue a key."""
        minted = keyformat.mint(
            "vk", self._secrets, self._entropy(keyformat.ID_BYTES), self._entropy(keyformat.SECRET_BYTES)
        )
        tenant_id, shelf = facts.tenant_id(tenant), facts.keys_of(tenant)

        def decide(known: Known, now: datetime) -> Decided:
            owner = known.get(Tenant, tenant_id)
            id_, live = KeyId(minted.id), known.live(shelf)
            return keys.create(owner, ask, keys_live=live, key_id=id_, digest=minted.digest, by=by, now=now)

        key = await self._do(tenant, Key, facts.key_id(minted.id), decide)
        return key if isinstance(key, Problem) else IssuedKey(key, minted.text)

    async def update_key(self, tenant: str, key: str, patch: KeyPatch, *, by: TokenId) -> Key | Problem:
        """Change a key's policy."""
        id_ = facts.key_id(key)

        def decide(known: Known, now: datetime) -> Decided:
            return keys.update(known.key(tenant, id_), patch, by=by, now=now)

        return await self._do(tenant, Key, id_, decide)

    async def revoke_key(self, tenant: str, key: str, *, reason: str, by: TokenId) -> Key | Problem:
        """End a key. Once this has returned, nothing more is admitted on it."""
        id_ = facts.key_id(key)

        def decide(known: Known, _: datetime) -> Decided:
            return keys.revoke(known.key(tenant, id_), reason=reason, by=by)

        return await self._do(tenant, Key, id_, decide, paced=False)

    async def _do(self, tenant: str, kind: type[F], id_: str, command: Command, *, paced: bool = True) -> F | Problem:
        """Run a command in the lane of a tenant's partition, at the tenant's pace."""
        owner = self.tenant(tenant)
        if owner is None:
            return problem("not_found")
        if paced:
            now = self._clock.monotonic()
            pace = self._paces.setdefault(tenant, Pace.full(WRITES_PER_S, WRITES_BURST, now))
            wait_s = pace.take(now)
            if wait_s:
                return problem("rate_limited", "Too many changes of this tenant.", retry_after_s=int(wait_s) + 1)
        return await self._commits.do(owner.partition, kind, id_, command)

    async def _place(self, tenant: TenantId, *, by: TokenId) -> Placement | Problem:
        """Claim a tenant's id, or return whose claim stands."""
        id_ = facts.placement_id(tenant)

        def decide(known: Known, _: datetime) -> Decided:
            loads = {partition: known.live(facts.placements_in(partition)) for partition in self._commits.partitions}
            return tenants.place(known.get(Placement, id_), tenant, loads=loads, by=by)

        return await self._commits.do(PLATFORM, Placement, id_, decide)
