"""Personal fields in the use cases: encrypted before a command is decided, opened for an answer.

A field that cannot be opened is None in an answer, never its ciphertext: the tenant was forgotten, or somebody altered
the log, which is logged. While a secret cannot be read a look-up is refused, since None would say too much.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from keyforge.contracts.errors import Problem, problem
from keyforge.contracts.ids import KeyId, TenantId
from keyforge.contracts.personal_fields import NONCE_BYTES, EncryptedField, FieldName
from keyforge.keys.application.ports import TenantSecretStore
from keyforge.keys.core.facts import Key, Tenant
from keyforge.runtime import logs
from keyforge.runtime.personal_fields import FieldKeys, PersonalFieldError

READS_AT_ONCE_MAX: Final = 64
"""Secrets that are read at the same moment for one list. Chosen: as many as entries of the directory are written
at once (`projection.WRITES_AT_ONCE_MAX`)."""


class OpenedTenant(msgspec.Struct, frozen=True):
    """A tenant with its name; None if that cannot be opened."""

    tenant: Tenant
    name: str | None


class OpenedKey(msgspec.Struct, frozen=True):
    """A key with its name and why it was revoked; None where that cannot be opened."""

    key: Key
    name: str | None
    reason: str | None


class NameChange(msgspec.Struct, frozen=True):
    """A name that a command wants, encrypted once: a decision that is run again stores the same bytes."""

    wanted: str
    encrypted: EncryptedField
    keys: FieldKeys

    def unless_same(self, current: EncryptedField, *, key_id: KeyId | None = None) -> EncryptedField | None:
        """Return the encrypted name; None if the current one opens to the same text."""
        try:
            same = self.keys.decrypt(current, "name", key_id=key_id) == self.wanted
        except PersonalFieldError:
            same = False
        return None if same else self.encrypted


class PersonalFields:
    """Encrypts and opens the personal fields of tenants and their keys."""

    def __init__(self, secrets: TenantSecretStore, entropy: Callable[[int], bytes]) -> None:
        self._secrets = secrets
        self._entropy = entropy
        self._logger = logs.get("personal_fields")

    async def first_name(self, tenant: TenantId, name: str) -> EncryptedField | Problem:
        """Encrypt the name of a tenant that is about to be created; its secret is made if there is none."""
        keys = await self._secrets.ensure(tenant)
        return keys if isinstance(keys, Problem) else self._encrypted(keys, name, "name")

    async def name(self, owner: Tenant, name: str, *, key_id: KeyId | None = None) -> NameChange | Problem:
        """Encrypt a name of a tenant that exists, or of one of its keys."""
        keys = await self._keys(owner)
        if isinstance(keys, Problem):
            return keys
        return NameChange(name, self._encrypted(keys, name, "name", key_id=key_id), keys)

    async def reason(self, owner: Tenant, reason: str, *, key_id: KeyId) -> EncryptedField | None:
        """Encrypt why a key is revoked; None if there is no reason, or if it cannot be encrypted: a revocation does not
        wait for it."""
        if not reason:
            return None
        keys = await self._keys(owner)
        if isinstance(keys, Problem):
            self._logger.warning("reason not stored", tenant=owner.tenant, key_id=key_id, why=keys.kind.type)
            return None
        return self._encrypted(keys, reason, "reason", key_id=key_id)

    async def open_tenants(self, tenants: Sequence[Tenant]) -> list[OpenedTenant] | Problem:
        """Open the names of tenants; a problem if a secret cannot be read right now."""
        needed = {tenant.tenant: tenant.name.secret_version for tenant in tenants}
        keys = await self._of_all(needed)
        if isinstance(keys, Problem):
            return keys
        return [self._opened_tenant(tenant, keys[tenant.tenant]) for tenant in tenants]

    async def open_keys(self, tenant: TenantId, found: Sequence[Key]) -> list[OpenedKey] | Problem:
        """Open the names of a tenant's keys; a problem if its secret cannot be read right now."""
        fields = [field for key in found for field in (key.name, key.reason) if field is not None]
        keys = await self._secrets.field_keys(tenant, _latest(fields)) if fields else None
        if isinstance(keys, Problem):
            return keys
        return [self._opened_key(key, keys) for key in found]

    async def changed_tenant(self, tenant: Tenant) -> OpenedTenant:
        """Open a tenant whose change is stored: that is answered, even if its secret cannot be read right now."""
        keys = await self._secrets.field_keys(tenant.tenant, tenant.name.secret_version)
        return self._opened_tenant(tenant, None if isinstance(keys, Problem) else keys)

    async def changed_key(self, key: Key) -> OpenedKey:
        """Open a key whose change is stored: that is answered, even if its secret cannot be read right now."""
        opened = await self.open_keys(key.tenant, [key])
        return self._opened_key(key, None) if isinstance(opened, Problem) else opened[0]

    async def _keys(self, owner: Tenant) -> FieldKeys | Problem:
        """Return keys that can encrypt, or why there are none."""
        keys = await self._secrets.field_keys(owner.tenant, owner.name.secret_version)
        if keys is None:
            return problem("tenant_forgotten")
        return keys if isinstance(keys, Problem) or keys.version else problem("internal")

    async def _of_all(self, versions: dict[TenantId, int]) -> dict[TenantId, FieldKeys | None] | Problem:
        permits = asyncio.Semaphore(READS_AT_ONCE_MAX)

        async def read(tenant: TenantId, version: int) -> FieldKeys | Problem | None:
            async with permits:
                return await self._secrets.field_keys(tenant, version)

        found = await asyncio.gather(*(read(tenant, version) for tenant, version in versions.items()))
        opened: dict[TenantId, FieldKeys | None] = {}
        for tenant, keys in zip(versions, found, strict=True):
            if isinstance(keys, Problem):
                return keys
            opened[tenant] = keys
        return opened

    def _encrypted(
        self, keys: FieldKeys, text: str, field: FieldName, *, key_id: KeyId | None = None
    ) -> EncryptedField:
        return keys.encrypt(text, field, key_id=key_id, nonce=self._entropy(NONCE_BYTES))

    def _opened_tenant(self, tenant: Tenant, keys: FieldKeys | None) -> OpenedTenant:
        return OpenedTenant(tenant, self._opened(keys, tenant.name, "name", tenant.tenant))

    def _opened_key(self, key: Key, keys: FieldKeys | None) -> OpenedKey:
        name = self._opened(keys, key.name, "name", key.tenant, key.key_id)
        return OpenedKey(key, name, self._opened(keys, key.reason, "reason", key.tenant, key.key_id))

    def _opened(
        self,
        keys: FieldKeys | None,
        encrypted: EncryptedField | None,
        field: FieldName,
        tenant: TenantId,
        key_id: KeyId | None = None,
    ) -> str | None:
        if keys is None or encrypted is None:
            return None
        try:
            return keys.decrypt(encrypted, field, key_id=key_id)
        except PersonalFieldError as error:
            self._logger.error("field does not open", tenant=tenant, key_id=key_id, field=field, why=str(error))
            return None


def _latest(fields: Iterable[EncryptedField]) -> int:
    return max(field.secret_version for field in fields)
