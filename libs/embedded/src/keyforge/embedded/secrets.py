"""The secrets of an embedded stack: made once at the first start, kept in the home, handed to who needs each."""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from keyforge.contracts import keyformat, permissions
from keyforge.contracts.keyformat import KeySecrets
from keyforge.contracts.meta import FORMAT, Meta, fingerprint
from keyforge.embedded.errors import UpError
from keyforge.embedded.home import Home

SECRET_BYTES: Final = 32
DEMO_KEY: Final = "demo_key"
"""The one secret that keys makes; it is stored by seeding."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """All of them, as text. Never printed, never logged."""

    key_secret: str
    commitment_secret: str
    audit_master_key: str
    edge_private_key: str
    edge_public_key: str
    admin_token: str
    clickhouse_password: str
    nats_passwords: Mapping[str, str]

    def __repr__(self) -> str:
        return "Secrets(...)"

    def made_with(self, partitions: int) -> Meta:
        """Return what KF_META says of a log that is made with these."""
        return Meta(
            audit_master_key=fingerprint("audit_master_key", bytes.fromhex(self.audit_master_key)),
            commitment_secret=fingerprint("commitment_secret", bytes.fromhex(self.commitment_secret)),
            edge_key=fingerprint("edge_key", bytes.fromhex(self.edge_public_key)),
            format=FORMAT,
            key_secret=fingerprint("key_secret", bytes.fromhex(self.key_secret)),
            partitions=partitions,
        )


def load(home: Home) -> Secrets:
    """Read the home's secrets, and make them at the first start.

    Raises UpError if one is missing beside a log that was written with it: a new one would disown every key.
    """
    first_start = not home.has_log()

    def keep(name: str, make: Callable[[], str]) -> str:
        found = home.read_secret(name)
        if found is None:
            if not first_start:
                raise UpError(f"{home.secrets / name} is missing but the log is there; restore it from a backup")
            found = make()
            home.write_secret(name, found)
        return found

    key_secret = keep("key_secret", _random)
    private_key = keep("edge_private_key", _x25519_private)
    return Secrets(
        key_secret=key_secret,
        commitment_secret=keep("commitment_secret", _random),
        audit_master_key=keep("audit_master_key", _random),
        edge_private_key=private_key,
        edge_public_key=keep("edge_public_key", lambda: _x25519_public(private_key)),
        admin_token=keep("admin_token", lambda: _admin_token(key_secret)),
        clickhouse_password=keep("clickhouse_password", _random),
        nats_passwords={user: keep(f"nats_{user}", _random) for user in permissions.USERS},
    )


def _random() -> str:
    return secrets.token_hex(SECRET_BYTES)


def _admin_token(key_secret: str) -> str:
    minted = keyformat.mint(
        "kfa",
        KeySecrets.derive(bytes.fromhex(key_secret)),
        secrets.token_bytes(keyformat.ID_BYTES),
        secrets.token_bytes(keyformat.SECRET_BYTES),
    )
    return minted.text


def _x25519_private() -> str:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    return X25519PrivateKey.generate().private_bytes_raw().hex()


def _x25519_public(private: str) -> str:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    return X25519PrivateKey.from_private_bytes(bytes.fromhex(private)).public_key().public_bytes_raw().hex()
