"""The secrets of an embedded stack: made once at the first start, kept in the home, each given to those who need it."""

import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from keyforge.contracts import keyformat, members
from keyforge.contracts.keyformat import KeySecrets
from keyforge.contracts.meta import FORMAT, Meta, fingerprint
from keyforge.embedded.errors import StackError
from keyforge.embedded.home import Home

SECRET_BYTES: Final = 32
"""256 bits: the key size of HMAC-SHA256 and of X25519."""
DEMO_KEY: Final = "demo_key"
"""The one secret that the service `keys` makes; seeding stores it."""


class Form(NamedTuple):
    """What the file of a secret holds: in words, and as a pattern of all of its text."""

    words: str
    pattern: str


ANY: Final = Form("one line of text", r".+")
ROOT: Final = Form("at least 32 bytes in hex", r"([0-9A-Fa-f]{2}){32,}")
WRAPPING: Final = Form("32 to 64 bytes in hex", r"([0-9A-Fa-f]{2}){32,64}")
X25519: Final = Form("32 bytes in hex", r"([0-9A-Fa-f]{2}){32}")
TOKEN: Final = Form("an operator's token, which begins with kfa_", r"kfa_[0-9A-Za-z]{16}_[0-9A-Za-z]{49}")


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

    def variables(self) -> dict[str, str]:
        """Return the value of every variable that hands a secret to a service; passwords of NATS are apart."""
        return {
            "KEYFORGE_KEY_SECRET": self.key_secret,
            "KEYFORGE_COMMITMENT_SECRET": self.commitment_secret,
            "KEYFORGE_AUDIT_MASTER_KEY": self.audit_master_key,
            "KEYFORGE_EDGE_PRIVATE_KEY": self.edge_private_key,
            "KEYFORGE_EDGE_PUBLIC_KEY": self.edge_public_key,
            "KEYFORGE_BOOTSTRAP_ADMIN_TOKEN": self.admin_token,
            "KEYFORGE_CLICKHOUSE_PASSWORD": self.clickhouse_password,
        }


def load(home: Home) -> Secrets:
    """Read the home's secrets, and create them at the first start.

    Raises StackError if one is damaged, or missing while the log that was written with it exists: a new one would
    invalidate every key.
    """
    first_start = not home.has_log()

    def keep(name: str, make: Callable[[], str], form: Form = ANY) -> str:
        found = home.read_secret(name)
        if found is None:
            if not first_start:
                raise StackError(f"{home.secrets / name} is missing but the log exists; restore it from a backup")
            found = make()
            home.write_secret(name, found)
        elif re.fullmatch(form.pattern, found) is None:
            raise StackError(f"{home.secrets / name} must hold {form.words}; restore it from a backup of this home")
        return found

    key_secret = keep("key_secret", _random, ROOT)
    private_key = keep("edge_private_key", _private_key, X25519)
    return Secrets(
        key_secret=key_secret,
        commitment_secret=keep("commitment_secret", _random, WRAPPING),
        audit_master_key=keep("audit_master_key", _random, ROOT),
        edge_private_key=private_key,
        edge_public_key=keep("edge_public_key", lambda: _public_key(private_key), X25519),
        admin_token=keep("admin_token", lambda: _admin_token(key_secret), TOKEN),
        clickhouse_password=keep("clickhouse_password", _random),
        nats_passwords={user: keep(f"nats_{user}", _random) for user in members.USERS},
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


def _private_key() -> str:
    from keyforge.runtime.encryption import new_private_key

    return new_private_key()


def _public_key(private_key: str) -> str:
    from keyforge.runtime.encryption import Decrypter

    return Decrypter(private_key).public_key
