"""Tenants' secrets in their bucket: made once, before the tenant, and never replaced from here."""

from keyforge.contracts.errors import Problem, problem
from keyforge.contracts.ids import TenantId
from keyforge.runtime import logs
from keyforge.runtime.buckets import Bucket, BucketUnavailableError
from keyforge.runtime.tenant_secrets import SecretWrapper, TenantSecretError


class BucketTenantSecrets:
    """`TenantSecretStore` over KF_TENANT_SECRETS."""

    def __init__(self, bucket: Bucket, wrapper: SecretWrapper) -> None:
        self._bucket = bucket
        self._wrapper = wrapper
        self._logger = logs.get("tenant_secrets")

    async def ensure(self, tenant: TenantId) -> int | Problem:
        """See `TenantSecretStore.ensure`."""
        try:
            return self._wrapper.version_in_force(tenant, await self._entry(tenant))
        except BucketUnavailableError as error:
            self._logger.warning("no secret for a tenant", tenant=tenant, error=str(error))
            return problem("policy_unavailable")
        except TenantSecretError:
            self._logger.exception("a tenant's secret does not open", tenant=tenant)
            return problem("internal")

    async def _entry(self, tenant: TenantId) -> bytes:
        entry = await self._bucket.get(tenant)
        if entry is None:
            # Revision 0: of two services that make one at the same moment, the second reads the first's.
            await self._bucket.update(tenant, self._wrapper.new_entry(tenant), 0)
            entry = await self._bucket.get(tenant)
        if entry is None or entry.value is None:
            raise BucketUnavailableError("the secret that was written is not there")
        return entry.value
