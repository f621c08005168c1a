"""Tenants' secrets open under their commitment secret, for their tenant and version, and never otherwise."""

import base64
import hmac

import msgspec
import pytest

from keyforge.contracts.ids import TenantId
from keyforge.contracts.tenant_secrets import TenantSecrets, WrappedSecret, derive
from keyforge.runtime.tenant_secrets import SecretWrapper, TenantSecretError

ROOT = bytes(range(32))
WRAPPER = SecretWrapper(ROOT)
ACME, OTHER = TenantId("acme"), TenantId("other")
SECRET = bytes(range(100, 132))
FIXTURE = b"/yAvG0sSTU42qjMiicaAyQqqiRsmDPjPkn9nyIjWsCxBt95VwrWvp/6FPOSs5OCTI7HaScfXwCro9ET+"
"""SECRET, wrapped for ACME as version 1."""


def entry(*secrets: WrappedSecret, tenant: TenantId = ACME) -> bytes:
    return msgspec.json.encode(TenantSecrets(tenant=tenant, secrets=secrets))


def wrapped(version: int = 1, *, tenant: TenantId = ACME, secret: bytes = SECRET) -> WrappedSecret:
    return WrappedSecret(version=version, wrapped=WRAPPER.wrap(tenant, version, secret))


def test_a_new_entry_opens_and_no_two_are_alike() -> None:
    entries = [WRAPPER.new_entry(ACME) for _ in range(3)]
    opened = {WRAPPER.in_force(ACME, one) for one in entries}
    assert len(opened) == 3
    assert {version for version, _ in opened} == {1}
    assert all(len(secret) == 32 for _, secret in opened)


def test_the_last_version_is_in_force() -> None:
    later = bytes(32)
    assert WRAPPER.in_force(ACME, entry(wrapped(1), wrapped(2, secret=later))) == (2, later)
    every = WRAPPER.every(ACME, entry(wrapped(1), wrapped(2, secret=later)))
    assert list(every.items()) == [(1, SECRET), (2, later)]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(entry(wrapped(tenant=OTHER)), id="another tenant's"),
        pytest.param(entry(wrapped(), tenant=OTHER), id="another tenant's entry"),
        pytest.param(entry(WrappedSecret(version=2, wrapped=wrapped(1).wrapped)), id="another version's"),
        pytest.param(entry(WrappedSecret(version=-1, wrapped=wrapped(1).wrapped)), id="no version"),
        pytest.param(entry(WrappedSecret(version=2**40, wrapped=wrapped(1).wrapped)), id="an absurd version"),
        pytest.param(entry(WrappedSecret(version=1, wrapped="AAEC")), id="too short"),
        pytest.param(entry(WrappedSecret(version=1, wrapped="not base64!")), id="no base64"),
        pytest.param(entry(wrapped(secret=b"short")), id="a secret of another length"),
        pytest.param(entry(), id="none"),
        pytest.param(b"", id="no entry"),
        pytest.param(b'{"tenant":"acme"}', id="half an entry"),
    ],
)
def test_nothing_else_opens(data: bytes) -> None:
    for opens in (WRAPPER.in_force, WRAPPER.every):
        with pytest.raises(TenantSecretError) as refused:
            opens(ACME, data)
        assert SECRET.hex() not in str(refused.value)


def test_every_altered_byte_is_noticed() -> None:
    data = base64.b64decode(wrapped().wrapped)
    for place in range(len(data)):
        altered = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        with pytest.raises(TenantSecretError):
            WRAPPER.in_force(ACME, entry(WrappedSecret(version=1, wrapped=base64.b64encode(altered).decode())))


def test_another_commitment_secret_opens_nothing() -> None:
    with pytest.raises(TenantSecretError, match="does not open"):
        SecretWrapper(bytes(32)).in_force(ACME, entry(wrapped()))


@pytest.mark.parametrize("length", [0, 31, 65])
def test_a_commitment_secret_has_bounds(length: int) -> None:
    with pytest.raises(TenantSecretError, match="32 to 64"):
        SecretWrapper(bytes(length))


def test_derived_keys_are_the_specs() -> None:
    assert derive(SECRET, "commitment") == hmac.digest(SECRET, b"keyforge/tenant-secret/v1\0commitment", "sha256")
    assert len({derive(SECRET, "commitment"), derive(SECRET, "field"), derive(SECRET, "fingerprint")}) == 3


def test_a_stored_entry_opens_for_good() -> None:
    """A fixture written once: another way of wrapping would lock every tenant out."""
    stored = b'{"tenant":"acme","secrets":[{"version":1,"wrapped":"@"}]}'.replace(b"@", FIXTURE)
    assert WRAPPER.in_force(ACME, stored) == (1, SECRET)
