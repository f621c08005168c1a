"""Prints the `.env` of compose.yaml with fresh secrets: run once, keep the file private and safe.

    ./taskw env          writes .env (mode 600), and never over one that is there

Whoever loses KEYFORGE_KEY_SECRET disowns every key and token; KEYFORGE_EDGE_PRIVATE_KEY opens every credential.
"""

import os
import sys
import tempfile
from pathlib import Path

from keyforge.contracts.meta import SECRETS
from keyforge.embedded.home import Home
from keyforge.embedded.secrets import load


def lines() -> list[str]:
    """`NAME=value` for every secret that compose.yaml asks for."""
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        home.prepare()
        made = load(home)
    fingerprints = {name: getattr(made.made_with(1), name) for name in SECRETS}
    values = {
        "KEYFORGE_KEY_SECRET": made.key_secret,
        "KEYFORGE_COMMITMENT_SECRET": made.commitment_secret,
        "KEYFORGE_AUDIT_MASTER_KEY": made.audit_master_key,
        "KEYFORGE_EDGE_PRIVATE_KEY": made.edge_private_key,
        "KEYFORGE_EDGE_PUBLIC_KEY": made.edge_public_key,
        "KEYFORGE_BOOTSTRAP_ADMIN_TOKEN": made.admin_token,
        "KEYFORGE_CLICKHOUSE_PASSWORD": made.clickhouse_password,
        **{f"{SECRETS[name]}_FINGERPRINT": fingerprint for name, fingerprint in fingerprints.items()},
        # A letter first: nats-server reads a variable like a value of its file, and `12e…` would be a number.
        **{f"KEYFORGE_NATS_PASSWORD_{user.upper()}": f"n{secret}" for user, secret in made.nats_passwords.items()},
    }
    return [f"{name}={value}" for name, value in sorted(values.items())]


def main() -> None:
    """Writes the file named by the only argument, private, and refuses to replace it."""
    path = Path(sys.argv[1])
    text = "\n".join(lines()) + "\n"  # before the file is made: one without secrets would stay for good
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        sys.exit(f"{path} exists; its secrets guard data that is there, so move it away yourself if you mean it")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    print(f"{path} written, mode 600; the admin token is in it")


if __name__ == "__main__":
    main()
