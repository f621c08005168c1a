"""Writes the `.env` of compose.yaml with new secrets: run once, keep the file private and safe.

    ./taskw env          writes .env (mode 600), and never over an existing one

Without KEYFORGE_KEY_SECRET every key and token is invalid; KEYFORGE_EDGE_PRIVATE_KEY decrypts every credential.
"""

import os
import sys
import tempfile
from pathlib import Path

from keyforge.contracts.meta import SECRETS
from keyforge.embedded.home import Home
from keyforge.embedded.secrets import load


def lines() -> list[str]:
    """Return `NAME=value` for every secret that compose.yaml requires."""
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        home.prepare()
        made = load(home)
    fingerprints = {name: getattr(made.made_with(1), name) for name in SECRETS}
    values = {
        **made.variables(),
        **{f"{SECRETS[name]}_FINGERPRINT": fingerprint for name, fingerprint in fingerprints.items()},
        # A letter first: nats-server reads a variable like a value of its file, and `12e…` would be a number.
        **{f"KEYFORGE_NATS_PASSWORD_{user.upper()}": f"n{secret}" for user, secret in made.nats_passwords.items()},
    }
    return [f"{name}={value}" for name, value in sorted(values.items())]


def main() -> None:
    """Write the file named by the only argument, private; refuse to replace one."""
    path = Path(sys.argv[1])
    text = "\n".join(lines()) + "\n"  # before the file is created: an empty one would block the next run
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        sys.exit(
            f"{path} exists; the data of this deployment needs its secrets, so move it away yourself to replace it"
        )
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    print(f"{path} written, mode 600; the admin token is in it")


if __name__ == "__main__":
    main()
