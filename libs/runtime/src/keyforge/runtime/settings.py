"""Settings that every service has: KEYFORGE_* variables, typed, read once by `__main__`, never at import."""

import os
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SecretStr, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from keyforge.contracts.keyformat import KeySecrets
from keyforge.contracts.meta import FORMAT, fingerprint
from keyforge.contracts.subjects import PARTITIONS_MAX, USER_WORDS, is_user
from keyforge.contracts.urls import is_http
from keyforge.contracts.variables import PREFIX, is_service_link
from keyforge.eventlog.nats.connection import check_setting
from keyforge.runtime.tenant_secrets import SecretWrapper


def not_empty(value: SecretStr) -> SecretStr:
    """Return a secret that is given at all, without white space around it: one from a file often ends in a newline. An
    empty one is what a missing file or a misspelled name leaves."""
    if not (text := value.get_secret_value().strip()):
        raise ValueError("must not be empty")
    return SecretStr(text)


def from_hex(value: SecretStr) -> bytes:
    """Return the bytes of a secret in hex. Raises ValueError, also for white space between them."""
    text = value.get_secret_value()
    if any(map(str.isspace, text)):
        raise ValueError("not hex")
    return bytes.fromhex(text)


Secret = Annotated[SecretStr, AfterValidator(not_empty)]
"""A secret, as a setting: not set at all, or not empty; white space around it is not part of it."""


def _commitment_secret(value: SecretStr) -> SecretStr:
    try:
        SecretWrapper(from_hex(value))
    except ValueError:
        raise ValueError("KEYFORGE_COMMITMENT_SECRET must be hex of 32 to 64 bytes") from None
    return value


CommitmentSecret = Annotated[Secret, AfterValidator(_commitment_secret)]
"""What tenants' secrets are wrapped under, as a setting of the services that have it."""


class _Variables(PydanticBaseSettingsSource):
    """The environment: each setting has one variable, in capitals. A service link of Kubernetes is no setting."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return the value of a setting, None if its variable is not set; see `PydanticBaseSettingsSource`."""
        del field
        name = f"{PREFIX}{field_name.upper()}"
        value = os.environ.get(name)
        return (None if value is None or is_service_link(name, value) else value), field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return what is set."""
        fields = self.settings_cls.model_fields.items()
        found = {name: self.get_field_value(field, name)[0] for name, field in fields}
        return {name: value for name, value in found.items() if value is not None}


class ServiceSettings(BaseSettings):
    """The shared part. A service adds its own in its `settings.py`, and its names to `contracts.variables`."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", validate_default=False)

    host: str = "127.0.0.1"
    """Address that HTTP is served on."""
    port: Annotated[int, Field(ge=1, le=65535)]
    """Port that HTTP is served on."""
    instance: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    """Stable name of this process, unique in its service, such as `edge-0`: the source of its events."""
    nats_url: str = "nats://127.0.0.1:4222"
    """Address of the log, or several, separated by commas."""
    nats_user: str = ""
    nats_password: Secret = SecretStr("")
    nats_monitor_url: str = "http://127.0.0.1:8222"
    """Address of the monitoring port of NATS: the only place that shows whether it syncs to disk."""
    durability: Literal["strict", "relaxed"] = "strict"
    """strict: refuse to start if NATS acknowledges before it syncs to disk."""
    partitions: Annotated[int, Field(ge=1, le=PARTITIONS_MAX)] | None = None
    """Compared with the number that the log was made with, if it is set; that number is the one that is used."""
    key_secret: Secret
    """Root secret of key tags and digests: hex, at least 32 bytes."""
    shutdown_delay_s: Annotated[float, Field(ge=0, le=600)] = 5.0
    """How long connections and requests are still accepted after SIGTERM, while `/readyz` is 503 and each answer closes
    its connection: a load balancer needs so long to notice."""
    shutdown_time_limit_s: Annotated[int, Field(ge=1, le=3600)] = 10
    """How long open requests may continue after that. The process may take 8 s longer than both until it ends."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @field_validator("nats_url")
    @classmethod
    def _servers(cls, value: str) -> str:
        check_setting(value)
        return value

    @field_validator("nats_user")
    @classmethod
    def _of_a_subject(cls, value: str) -> str:
        if not is_user(value):
            raise ValueError(f"KEYFORGE_NATS_USER must be {USER_WORDS}")
        return value

    @field_validator("nats_monitor_url")
    @classmethod
    def _monitors(cls, value: str) -> str:
        if value and not all(is_http(url) for url in value.split(",")):
            raise ValueError("KEYFORGE_NATS_MONITOR_URL must be http(s)://host:port, or several, separated by commas")
        return value

    @field_validator("key_secret")
    @classmethod
    def _long_enough(cls, value: SecretStr) -> SecretStr:
        try:
            KeySecrets.derive(from_hex(value))
        except ValueError:
            raise ValueError("KEYFORGE_KEY_SECRET must be at least 32 bytes in hex") from None
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read what is passed, then the environment in our own way, and no files."""
        del env_settings, dotenv_settings, file_secret_settings
        return init_settings, _Variables(settings_cls)

    def key_secrets(self) -> KeySecrets:
        """Return the secrets that create and verify keys and tokens."""
        return KeySecrets.derive(bytes.fromhex(self.key_secret.get_secret_value()))

    def made_with(self) -> dict[str, int | str]:
        """Return what this service knows of the log's KF_META; a service with further secrets adds theirs."""
        return {
            "format": FORMAT,
            **({} if self.partitions is None else {"partitions": self.partitions}),
            "key_secret": fingerprint("key_secret", bytes.fromhex(self.key_secret.get_secret_value())),
        }
