"""Settings of keys: the shared ones and its own."""

from typing import Annotated

from pydantic import Field, SecretStr

from keyforge.runtime.settings import ServiceSettings


class KeysSettings(ServiceSettings):
    """KEYFORGE_* variables of keys."""

    port: Annotated[int, Field(ge=1, le=65535)] = 8081
    """Port of the operators' API."""
    instance: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")] = "keys-0"
    """Stable name of this process."""
    edge_public_key: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")]
    """What credentials are encrypted to: the edges' X25519 public key, hex."""
    bootstrap_admin_token: SecretStr = SecretStr("")
    """A platform admin's token (kfa_...) that is created at the start if no operator's token ever was."""
