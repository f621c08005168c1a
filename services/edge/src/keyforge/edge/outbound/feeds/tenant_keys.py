"""The tenants' secrets, read from their bucket when first needed and kept as ready-made keys, bounded.

A secret never changes under its version, so what was read stays right; another version comes as another entry.
"""

import asyncio
from functools import partial
from typing import Final

from keyforge.contracts.errors import Problem, problem
from keyforge.contracts.ids import TenantId
from keyforge.edge.core.lru import Lru
from keyforge.edge.core.settlement.commitment import TenantKey
from keyforge.runtime import logs
from keyforge.runtime.buckets import Bucket, BucketUnavailableError
from keyforge.runtime.tenant_secrets import SecretWrapper, TenantSecretError

TENANTS_MAX: Final = 10_000
"""Tenants whose keys are kept. Chosen: about 1 KB each, and one read from the bucket for a tenant beyond them."""


class BucketTenantKeys:
    """`TenantKeys` over KF_TENANT_SECRETS."""

    def __init__(self, bucket: Bucket, wrapper: SecretWrapper) -> None:
        self._bucket = bucket
        self._wrapper = wrapper
        self._kept: Lru[TenantId, TenantKey] = Lru(TENANTS_MAX)
        self._loading: dict[TenantId, asyncio.Future[TenantKey | Problem]] = {}
        self._logger = logs.get("tenant_keys")

    def known(self, tenant: TenantId) -> TenantKey | None:
        """See `TenantKeys.known`."""
        return self._kept.get(tenant)

    async def load(self, tenant: TenantId) -> TenantKey | Problem:
        """See `TenantKeys.load`; requests of one tenant at the same moment share a read."""
        loading = self._loading.get(tenant)
        if loading is None:
            loading = self._loading[tenant] = asyncio.ensure_future(self._read(tenant))
            loading.add_done_callback(partial(self._loaded, tenant))
        return await asyncio.shield(loading)

    def _loaded(self, tenant: TenantId, _: object) -> None:
        self._loading.pop(tenant, None)

    async def _read(self, tenant: TenantId) -> TenantKey | Problem:
        try:
            entry = await self._bucket.get(tenant)
            found = self._wrapper.in_force(tenant, entry.value) if entry and entry.value else None
        except (BucketUnavailableError, TenantSecretError) as fault:
            self._logger.warning("a tenant's secret cannot be read", tenant=tenant, error=str(fault))
            return problem("policy_unavailable")
        if found is None:
            self._logger.error("a tenant has no secret: restore its bucket from a backup", tenant=tenant)
            return problem("policy_unavailable")
        key = TenantKey(*found)
        self._kept.put(tenant, key)
        return key
