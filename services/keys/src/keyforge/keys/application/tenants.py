"""The use cases of tenants and their keys."""

import os
from collections.abc import Callable
from datetime import datetime
from typing import Final

import msgspec

from keyforge.contracts import keyformat
from keyforge.contracts.errors import Problem, not_found, problem
from keyforge.contracts.ids import KeyId, ModelName, ProviderId, TenantId, TokenId
from keyforge.contracts.keyformat import KeySecrets
from keyforge.keys.application.commits import Command, Commits, F, KnownFacts, all_of, as_a
from keyforge.keys.application.personal_fields import NameChange, OpenedKey, OpenedTenant, PersonalFields
from keyforge.keys.application.ports import PLATFORM, Decided, TenantSecretStore
from keyforge.keys.core import keys, names, tenants
from keyforge.keys.core.facts import Key, Placement, Resumption, Tenant
from keyforge.keys.core.keys import KeyPatch, NewKey
from keyforge.keys.core.tenants import NewTenant, TenantPatch
from keyforge.keys.core.token_bucket import TokenBucket
from keyforge.runtime.clock import Clock

WRITES_PER_S: Final = 20.0
WRITES_BURST: Final = 100.0
"""Changes of one tenant. Chosen: as many a second as its partition's queue appends frames
(`command_queue.TICKS_PER_S_MAX`), and five seconds of them at once; each frame makes the owner fold before it admits
again, for all tenants of the partition. Revocations are not limited."""
_TOO_MANY_CHANGES: Final = (
    f"Too many changes of this tenant: at most {WRITES_PER_S:.0f} a second after a burst of {WRITES_BURST:.0f}."
)


class IssuedKey(msgspec.Struct, frozen=True):
    """A key that was just created. `text` is returned once and stored nowhere."""

    key: OpenedKey
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
        self._personal = PersonalFields(tenant_secrets, entropy)
        self._clock = clock
        self._entropy = entropy
        self._buckets: dict[str, TokenBucket] = {}

    async def tenant(self, tenant: str) -> OpenedTenant | Problem | None:
        """Return a tenant."""
        found = self._tenant(tenant)
        opened = await self._personal.open_tenants([found] if found is not None else [])
        return opened if isinstance(opened, Problem) else next(iter(opened), None)

    async def tenants(self, *, after: str, limit: int) -> list[OpenedTenant] | Problem:
        """Return tenants in order of their ids, those after `after`."""
        found = [
            tenant
            for partition in self._commits.partitions
            for tenant in all_of(Tenant, self._commits.index(partition).listed(names.TENANTS))
            if tenant.tenant > after
        ]
        return await self._personal.open_tenants(sorted(found, key=lambda tenant: tenant.tenant)[:limit])

    async def key(self, tenant: str, key: str) -> OpenedKey | Problem | None:
        """Return a key of a tenant."""
        owner = self._tenant(tenant)
        if owner is None:
            return None
        found = as_a(Key, self._commits.index(owner.partition).committed(names.key_id(key)))
        known = [found] if found is not None and found.tenant == tenant else []
        opened = await self._personal.open_keys(owner.tenant, known)
        return opened if isinstance(opened, Problem) else next(iter(opened), None)

    async def keys(self, tenant: str, *, after: str, limit: int) -> list[OpenedKey] | Problem | None:
        """Return a tenant's keys in order of creation, those after `after`; None: unknown tenant."""
        owner = self._tenant(tenant)
        if owner is None:
            return None
        index = self._commits.index(owner.partition)
        found = all_of(Key, index.listed(names.keys_of(tenant), after=after and names.key_id(after), limit=limit))
        return await self._personal.open_keys(owner.tenant, found)

    def _tenant(self, tenant: str) -> Tenant | None:
        id_ = names.tenant_id(tenant)
        for partition in self._commits.partitions:
            found = as_a(Tenant, self._commits.index(partition).committed(id_))
            if found is not None:
                return found
        return None

    async def create_tenant(self, new: NewTenant, name: str, *, by: TokenId) -> OpenedTenant | Problem:
        """Create a tenant in the least loaded partition.

        Its id is claimed first, on the platform's subject: partitions have no order among them, so only a claim keeps
        two services from creating it in two. Its secret is made before it. If a claimant dies, the next request for the
        id completes its work.
        """
        refused = tenants.settings(self._tenant(new.tenant), new)
        if isinstance(refused, Problem):
            return refused  # before an id is claimed for it
        placement = await self._place(new.tenant, by=by)
        if isinstance(placement, Problem):
            return placement
        encrypted = await self._personal.first_name(new.tenant, name)
        if isinstance(encrypted, Problem):
            return encrypted  # a tenant without a secret could commit to nothing
        id_, partition = names.tenant_id(new.tenant), placement.partition

        def decide(known: KnownFacts, _: datetime) -> Decided:
            return tenants.create(known.get(Tenant, id_), new, encrypted, partition=partition, by=by)

        done = await self._commits.execute(partition, Tenant, id_, decide)
        return done if isinstance(done, Problem) else await self._personal.changed_tenant(done)

    async def update_tenant(
        self, tenant: str, patch: TenantPatch, name: str | None, *, by: TokenId
    ) -> OpenedTenant | Problem:
        """Change a tenant; `name` None: it stays as it is."""
        id_, keys_index = names.tenant_id(tenant), names.keys_of(tenant)
        change = await self._name_change(tenant, name)
        if isinstance(change, Problem):
            return change

        def decide(known: KnownFacts, _: datetime) -> Decided:
            before = known.get(Tenant, id_)
            new = change.unless_same(before.name) if change and before else None
            return tenants.update(before, patch, name=new, keys_live=known.live(keys_index), by=by)

        done = await self._execute(tenant, Tenant, id_, decide)
        return done if isinstance(done, Problem) else await self._personal.changed_tenant(done)

    async def resume_model(
        self, tenant: str, provider: ProviderId, model: ModelName, *, by: TokenId
    ) -> Resumption | Problem:
        """Lift the freeze that an overrun put on a model."""
        id_ = names.tenant_id(tenant)

        def decide(known: KnownFacts, _: datetime) -> Decided:
            return tenants.resume_model(known.get(Tenant, id_), provider, model, by=by)

        return await self._execute(tenant, Resumption, names.resumption_id(tenant, provider, model), decide)

    async def create_key(self, tenant: str, new: NewKey, name: str, *, by: TokenId) -> IssuedKey | Problem:
        """Issue a key."""
        minted = keyformat.mint(
            "vk", self._secrets, self._entropy(keyformat.ID_BYTES), self._entropy(keyformat.SECRET_BYTES)
        )
        tenant_id, keys_index, key_id = names.tenant_id(tenant), names.keys_of(tenant), KeyId(minted.id)
        change = await self._name_change(tenant, name, key_id=key_id)
        if isinstance(change, Problem):
            return change
        if change is None:
            return self._unknown(tenant)
        encrypted = change.encrypted

        def decide(known: KnownFacts, now: datetime) -> Decided:
            owner, live = known.get(Tenant, tenant_id), known.live(keys_index)
            digest = minted.digest
            return keys.create(owner, new, encrypted, keys_live=live, key_id=key_id, digest=digest, by=by, now=now)

        key = await self._execute(tenant, Key, names.key_id(minted.id), decide)
        if isinstance(key, Problem):
            return key
        return IssuedKey(await self._personal.changed_key(key), minted.text)

    async def update_key(
        self, tenant: str, key: str, patch: KeyPatch, name: str | None, *, by: TokenId
    ) -> OpenedKey | Problem:
        """Change a key's policy; `name` None: it stays as it is."""
        id_, key_id = names.key_id(key), KeyId(key)
        change = await self._name_change(tenant, name, key_id=key_id)
        if isinstance(change, Problem):
            return change

        def decide(known: KnownFacts, now: datetime) -> Decided:
            before = known.key(tenant, id_)
            new = change.unless_same(before.name, key_id=key_id) if change and before else None
            return keys.update(before, patch, name=new, by=by, now=now)

        done = await self._execute(tenant, Key, id_, decide)
        return done if isinstance(done, Problem) else await self._personal.changed_key(done)

    async def revoke_key(self, tenant: str, key: str, *, reason: str, by: TokenId) -> OpenedKey | Problem:
        """Revoke a key. Once this has returned, nothing more is admitted on it, whatever becomes of the reason."""
        id_, owner = names.key_id(key), self._tenant(tenant)
        why = await self._personal.reason(owner, reason, key_id=KeyId(key)) if owner else None

        def decide(known: KnownFacts, _: datetime) -> Decided:
            return keys.revoke(known.key(tenant, id_), reason=why, by=by)

        done = await self._execute(tenant, Key, id_, decide, limited=False)
        return done if isinstance(done, Problem) else await self._personal.changed_key(done)

    async def _name_change(
        self, tenant: str, name: str | None, *, key_id: KeyId | None = None
    ) -> NameChange | Problem | None:
        """Encrypt a name, if there is one; an unknown tenant is for the command to refuse."""
        owner = self._tenant(tenant)
        if owner is None or name is None:
            return None
        return await self._personal.name(owner, name, key_id=key_id)

    async def _execute(
        self, tenant: str, kind: type[F], id_: str, command: Command, *, limited: bool = True
    ) -> F | Problem:
        """Run a command in the queue of a tenant's partition; `limited`: within the tenant's rate of changes."""
        owner = self._tenant(tenant)
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
        return not_found("tenant")
