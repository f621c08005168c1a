"""The settings of audit: KEYFORGE_* variables, each with its unit and default."""

from typing import Annotated, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from keyforge.audit.outbound.clients import database_of
from keyforge.chain.seal import MASTER_BYTES_MIN, MasterKey
from keyforge.contracts.meta import fingerprint
from keyforge.contracts.urls import is_http
from keyforge.runtime.settings import CommitmentSecret, Secret, ServiceSettings, from_hex

KEY_VERSION = 1
"""Version of the master key that records name (docs/spec/audit-format.md)."""


class AuditSettings(ServiceSettings):
    """The settings that audit adds to the shared ones."""

    port: Annotated[int, Field(ge=1, le=65535)] = 8083
    instance: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")] = "audit-0"
    audit_master_key: Secret
    """The secret that the keys of records' MACs are derived from: hex, at least 32 bytes."""
    commitment_secret: CommitmentSecret
    """What tenants' secrets are wrapped under: hex, 32 to 64 bytes. Compared with the log's; nothing is opened yet."""
    clickhouse_url: SecretStr = SecretStr("")
    """http(s)://user:password@host:port/database of a ClickHouse server. Empty: the engine in this process."""
    clickhouse_path: str = ""
    """Folder of the engine in this process; required without a URL."""
    clickhouse_http_port: Annotated[int, Field(ge=0, le=65535)] = 0
    """Port of ClickHouse's HTTP protocol for the engine in this process, read-only. 0: closed."""
    clickhouse_user: str = "keyforge"
    """User on that port."""
    clickhouse_password: Secret = SecretStr("")
    """Password on that port; required to open it."""
    audit_linger_s: Annotated[float, Field(gt=0, le=60)] = 1.0
    """At most one INSERT in this many seconds, unless very many records wait; after a pause, a tenth of it."""

    @field_validator("audit_master_key")
    @classmethod
    def _long_enough_for_macs(cls, value: SecretStr) -> SecretStr:
        try:
            long_enough = len(from_hex(value)) >= MASTER_BYTES_MIN
        except ValueError:
            long_enough = False
        if not long_enough:
            raise ValueError(f"KEYFORGE_AUDIT_MASTER_KEY must be at least {MASTER_BYTES_MIN} bytes in hex")
        return value

    @field_validator("clickhouse_url")
    @classmethod
    def _of_a_server(cls, value: SecretStr) -> SecretStr:
        url = value.get_secret_value().strip()
        try:
            usable = not url or (is_http(url) and bool(database_of(url)))
        except ValueError:
            usable = False
        if not usable:
            raise ValueError("KEYFORGE_CLICKHOUSE_URL must be http(s)://user:password@host:port/database")
        return SecretStr(url)

    @model_validator(mode="after")
    def _one_store(self) -> Self:
        if not self.clickhouse_url.get_secret_value() and not self.clickhouse_path:
            raise ValueError("set KEYFORGE_CLICKHOUSE_URL or KEYFORGE_CLICKHOUSE_PATH")
        if self.clickhouse_http_port and not self.clickhouse_password.get_secret_value():
            raise ValueError("KEYFORGE_CLICKHOUSE_HTTP_PORT requires KEYFORGE_CLICKHOUSE_PASSWORD")
        return self

    def made_with(self) -> dict[str, int | str]:
        """See `ServiceSettings.made_with`."""
        return super().made_with() | {
            "audit_master_key": fingerprint(
                "audit_master_key", bytes.fromhex(self.audit_master_key.get_secret_value())
            ),
            "commitment_secret": fingerprint(
                "commitment_secret", bytes.fromhex(self.commitment_secret.get_secret_value())
            ),
        }

    def master_key(self) -> MasterKey:
        """Return what MAC keys are derived from."""
        return MasterKey(KEY_VERSION, bytes.fromhex(self.audit_master_key.get_secret_value()))
