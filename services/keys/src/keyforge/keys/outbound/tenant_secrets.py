"""Tenants' secrets in their bucket: made once, before the tenant, and never replaced from here.

What was read is kept: a secret never changes under its version. That a tenant has none is not kept, since a bucket may
be restored from a backup.
"""

from typing import Final

from keyforge.contracts.errors import Problem, problem
from keyforge.contracts.ids import TenantId
from keyforge.runtime import logs
from keyforge.runtime.buckets import Bucket, BucketUnavailableError
from keyforge.runtime.personal_fields import FieldKeys
from keyforge.runtime.tenant_secrets import SecretWrapper, TenantSecretError

TENANTS_MAX: Final = 10_000
"""Tenants whose keys are kept. Chosen: about 1 KB each, and one read from the bucket for a tenant beyond them."""


class BucketTenantSecrets:
    """`TenantSecretStore` over KF_TENANT_SECRETS."""

    def __init__(self, bucket: Bucket, wrapper: SecretWrapper) -> None:
        self._bucket = bucket
        self._wrapper = wrapper
        self._kept: dict[TenantId, FieldKeys] = {}
        self._logger = logs.get("tenant_secrets")

    async def ensure(self, tenant: TenantId) -> FieldKeys | Problem:
        """See `TenantSecretStore.ensure`."""
        try:
            return self._keep(tenant, await self._entry(tenant))
        except BucketUnavailableError as error:
            return self._unavailable(tenant, error)
        except TenantSecretError:
            self._logger.exception("a tenant's secret does not open", tenant=tenant)
            return problem("internal")

    async def field_keys(self, tenant: TenantId, version: int) -> FieldKeys | Problem | None:
        """See `TenantSecretStore.field_keys`."""
        kept = self._kept.get(tenant)
        if kept is not None and version in kept:
            return kept
        try:
            entry = await self._bucket.get(tenant)
            return self._keep(tenant, entry.value) if entry and entry.value else None
        except BucketUnavailableError as error:
            return self._unavailable(tenant, error)
        except TenantSecretError:
            self._logger.exception("a tenant's secret does not open", tenant=tenant)
            return FieldKeys(tenant, {})

    def _keep(self, tenant: TenantId, entry: bytes) -> FieldKeys:
        keys = FieldKeys(tenant, self._wrapper.every(tenant, entry))
        if tenant not in self._kept and len(self._kept) >= TENANTS_MAX:
            del self._kept[next(iter(self._kept))]
        self._kept[tenant] = keys
        return keys

    def _unavailable(self, tenant: TenantId, error: BucketUnavailableError) -> Problem:
        self._logger.warning("a tenant's secret cannot be read", tenant=tenant, error=str(error))
        return problem("policy_unavailable", "The secret of the tenant cannot be read right now.")

    async def _entry(self, tenant: TenantId) -> bytes:
        entry = await self._bucket.get(tenant)
        if entry is None:
            # Revision 0: of two services that make one at the same moment, the second reads the first's. What was
            # written here is not read back: a replica may lag.
            made = self._wrapper.new_entry(tenant)
            if await self._bucket.update(tenant, made, 0) is not None:
                return made
            entry = await self._bucket.get(tenant)
        if entry is None or entry.value is None:
            raise BucketUnavailableError("the secret that was written is not there")
        return entry.value
