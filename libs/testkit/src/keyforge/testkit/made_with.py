"""What a test's log was made with, for `eventlog.meta.declare`: fingerprints of the secrets that its services get."""

from keyforge.contracts.meta import FORMAT, SECRETS, Meta, fingerprint


def made_with(partitions: int, **secrets: str) -> Meta:
    """Return the entry for a log whose services get these `secrets` (hex, by the names of `contracts.meta.SECRETS`);
    one that no service of the test gets may be left out."""
    fingerprints = {name: fingerprint(name, bytes.fromhex(secrets.get(name, ""))) for name in SECRETS}
    return Meta(format=FORMAT, partitions=partitions, **fingerprints)
