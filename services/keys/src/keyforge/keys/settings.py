"""Settings of keys: the shared ones and its own."""

from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr

from keyforge.contracts.meta import fingerprint
from keyforge.runtime.encryption import Encrypter
from keyforge.runtime.settings import CommitmentSecret, Secret, ServiceSettings


def _public_key(value: str) -> str:
    text = value.strip()  # as of a secret (`not_empty`)
    Encrypter(text)  # raises EncryptionError, a ValueError
    return text


class KeysSettings(ServiceSettings):
    """KEYFORGE_* variables of keys."""

    port: Annotated[int, Field(ge=1, le=65535)] = 8081
    """Port of the operators' API."""
    instance: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")] = "keys-0"
    """Stable name of this process."""
    edge_public_key: Annotated[str, AfterValidator(_public_key)]
    """What credentials are encrypted to: the edges' X25519 public key, hex."""
    commitment_secret: CommitmentSecret
    """What tenants' secrets are wrapped under: hex, 32 to 64 bytes."""
    bootstrap_admin_token: Secret = SecretStr("")
    """A platform admin's token (kfa_...) that is created at the start if no operator's token ever was."""

    def made_with(self) -> dict[str, int | str]:
        """See `ServiceSettings.made_with`."""
        return super().made_with() | {
            "commitment_secret": fingerprint(
                "commitment_secret", bytes.fromhex(self.commitment_secret.get_secret_value())
            ),
            "edge_key": fingerprint("edge_key", bytes.fromhex(self.edge_public_key)),
        }
