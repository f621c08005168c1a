"""The use cases of tenants and their keys."""

import os
from collections.abc import Callable
from datetime import datetime
from typing import Final

import msgspec

from keyforge.contracts import keyformat
from keyforge.contracts.errors import Problem, problem
from keyforge.contracts.ids import KeyId, ModelName, ProviderId, TenantId, TokenId
from keyforge.contracts.keyformat import KeySecrets
from keyforge.keys.application.commits import Command, Commits, F, KnownFacts, all_of, as_a
from keyforge.keys.application.ports import PLATFORM, Decided, TenantSecretStore
from keyforge.keys.core import keys, names, tenants
from keyforge.keys.core.facts import Key, Placement, Resumption, Tenant
from keyforge.keys.core.keys import KeyPatch, NewKey
from keyforge.keys.core.tenants import NewTenant, TenantPatch
from keyforge.keys.core.token_bucket import TokenBucket
from keyforge.runtime.clock import Clock

WRITES_PER_S: Final = 20.0
WRITES_BURST: Final = 100.0
"""Changes of one tenant. Chosen: as many a second as its partition's queue appends frames; each frame makes the owner
fold before it admits again, for all tenants of the partition. Revocations are not limited."""
_TOO_MANY_CHANGES: Final = (
    f"Too many changes of this tenant: at most {WRITES_PER_S:.0f} a second after a burst of {WRITES_BURST:.0f}."
)


class IssuedKey(msgspec.Struct, frozen=True):
    """A key that was just created. `text` is returned once and stored nowhere."""

    key: Key
    text: str


class Tenants:
    """Commands and look-ups of tenants and keys."""

    def __init__(
        self,
        commits: Commits,
        secrets: KeySecrets,
        tenant_secrets: TenantSecretStore,
        clock: Clock,
        *,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._commits = commits
        self._secrets = secrets
        self._tenant_secrets = tenant_secrets
        self._clock = clock
        self._entropy = entropy
        self._buckets: dict[str, TokenBucket] = {}

    def tenant(self, tenant: str) -> Tenant | None:
        """Return a tenant."""
        id_ = names.tenant_id(tenant)
        for partition in self._commits.partitions:
            found = as_a(Tenant, self._commits.index(partition).committed(id_))
            if found is not None:
                return found
        return None

    def tenants(self, *, after: str, limit: int) -> list[Tenant]:
        """Return tenants in order of their ids, those after `after`."""
        found = [
            tenant
            for partition in self._commits.partitions
            for tenant in all_of(Tenant, self._commits.index(partition).listed(names.TENANTS))
            if tenant.tenant > after
        ]
        return sorted(found, key=lambda tenant: tenant.tenant)[:limit]

    def key(self, tenant: str, key: str) -> Key | None:
        """Return a key of a tenant."""
        owner = self.tenant(tenant)
        if owner is None:
            return None
        found = as_a(Key, self._commits.index(owner.partition).committed(names.key_id(key)))
        return found if found is not None and found.tenant == tenant else None

    def keys(self, tenant: str, *, after: str, limit: int) -> list[Key] | None:
        """Return a tenant's keys in order of creation, those after `after`; None: unknown tenant."""
        owner = self.tenant(tenant)
        if owner is None:
            return None
        index = self._commits.index(owner.partition)
        return all_of(Key, index.listed(names.keys_of(tenant), after=after and names.key_id(after), limit=limit))

    async def create_tenant(self, new: NewTenant, *, by: TokenId) -> Tenant | Problem:
        """Create a tenant in the least loaded partition.

        Its id is claimed first, on the platform's subject: partitions have no order among them, so only a claim keeps
        two services from creating it in two. Its secret is made before it. If a claimant dies, the next request for the
        id completes its work.
        """
        refused = tenants.create(self.tenant(new.tenant), new, partition=0, secret_version=0, by=by)
        if isinstance(refused, Problem):
            return refused  # before an id is claimed for it
        placement = await self._place(new.tenant, by=by)
        if isinstance(placement, Problem):
            return placement
        secret_version = await self._tenant_secrets.ensure(new.tenant)
        if isinstance(secret_version, Problem):
            return secret_version  # a tenant without a secret could commit to nothing
        id_, partition = names.tenant_id(new.tenant), placement.partition

        def decide(known: KnownFacts, _: datetime) -> Decided:
            before = known.get(Tenant, id_)
            return tenants.create(before, new, partition=partition, secret_version=secret_version, by=by)

        return await self._commits.execute(partition, Tenant, id_, decide)

    async def update_tenant(self, tenant: str, patch: TenantPatch, *, by: TokenId) -> Tenant | Problem:
        """Change a tenant."""
        id_, keys_index = names.tenant_id(tenant), names.keys_of(tenant)

        def decide(known: KnownFacts, _: datetime) -> Decided:
            return tenants.update(known.get(Tenant, id_), patch, keys_live=known.live(keys_index), by=by)

        return await self._execute(tenant, Tenant, id_, decide)

    async def resume_model(
        self, tenant: str, provider: ProviderId, model: ModelName, *, by: TokenId
    ) -> Resumption | Problem:
        """Lift the freeze that an overrun put on a model."""
        id_ = names.tenant_id(tenant)

        def decide(known: KnownFacts, _: datetime) -> Decided:
            return tenants.resume_model(known.get(Tenant, id_), provider, model, by=by)

        return await self._execute(tenant, Resumption, names.resumption_id(tenant, provider, model), decide)

    async def create_key(self, tenant: str, new: NewKey, *, by: TokenId) -> IssuedKey | Problem:
        """Issue a key."""
        minted = keyformat.mint(
            "vk", self._secrets, self._entropy(keyformat.ID_BYTES), self._entropy(keyformat.SECRET_BYTES)
        )
        tenant_id, keys_index = names.tenant_id(tenant), names.keys_of(tenant)

        def decide(known: KnownFacts, now: datetime) -> Decided:
            owner = known.get(Tenant, tenant_id)
            id_, live = KeyId(minted.id), known.live(keys_index)
            return keys.create(owner, new, keys_live=live, key_id=id_, digest=minted.digest, by=by, now=now)

        key = await self._execute(tenant, Key, names.key_id(minted.id), decide)
        return key if isinstance(key, Problem) else IssuedKey(key, minted.text)

    async def update_key(self, tenant: str, key: str, patch: KeyPatch, *, by: TokenId) -> Key | Problem:
        """Change a key's policy."""
        id_ = names.key_id(key)

        def decide(known: KnownFacts, now: datetime) -> Decided:
            return keys.update(known.key(tenant, id_), patch, by=by, now=now)

        return await self._execute(tenant, Key, id_, decide)

    async def revoke_key(self, tenant: str, key: str, *, reason: str, by: TokenId) -> Key | Problem:
        """Revoke a key. Once this has returned, nothing more is admitted on it."""
        id_ = names.key_id(key)

        def decide(known: KnownFacts, _: datetime) -> Decided:
            return keys.revoke(known.key(tenant, id_), reason=reason, by=by)

        return await self._execute(tenant, Key, id_, decide, limited=False)

    async def _execute(
        self, tenant: str, kind: type[F], id_: str, command: Command, *, limited: bool = True
    ) -> F | Problem:
        """Run a command in the queue of a tenant's partition; `limited`: within the tenant's rate of changes."""
        owner = self.tenant(tenant)
        if owner is None:
            return self._unknown(tenant)
        if limited:
            now = self._clock.monotonic()
            bucket = self._buckets.setdefault(tenant, TokenBucket.full(WRITES_PER_S, WRITES_BURST, now))
            wait_s = bucket.take(now)
            if wait_s:
                return problem("rate_limited", _TOO_MANY_CHANGES, retry_after_s=int(wait_s) + 1)
        return await self._commits.execute(owner.partition, kind, id_, command)

    async def _place(self, tenant: TenantId, *, by: TokenId) -> Placement | Problem:
        """Claim a tenant's id, or return the claim that was first."""
        id_ = names.placement_id(tenant)

        def decide(known: KnownFacts, _: datetime) -> Decided:
            taking = [partition for partition in self._commits.partitions if not self._commits.halted(partition)]
            if not taking:
                return problem("fold_halted")
            loads = {partition: known.live(names.placements_in(partition)) for partition in taking}
            return tenants.place(known.get(Placement, id_), tenant, loads=loads, by=by)

        return await self._commits.execute(PLATFORM, Placement, id_, decide)

    def _unknown(self, tenant: str) -> Problem:
        """Return why there is no such tenant: a halted partition may hold one that it cannot show."""
        placed = as_a(Placement, self._commits.index(PLATFORM).committed(names.placement_id(tenant)))
        if placed is not None and self._commits.halted(placed.partition):
            return problem("fold_halted")
        return problem("not_found")
