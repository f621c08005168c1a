"""The verifier of operators' tokens: the id finds an entry, and only the secret makes the caller its operator."""

from typing import get_args

import msgspec
import pytest

from keyforge.contracts.directory import TokenEntry, encode
from keyforge.contracts.errors import Problem
from keyforge.contracts.events import Role
from keyforge.contracts.ids import TokenId
from keyforge.contracts.keyformat import ID_BYTES, SECRET_BYTES, KeySecrets, Minted, mint, parse_id
from keyforge.runtime.buckets import Bucket, BucketUnavailableError, Entry
from keyforge.runtime.tokens import Operator, TokenVerifier

SECRETS = KeySecrets.derive(bytes(range(32)))


class Tokens(Bucket):
    """A bucket in memory; None stands for one that cannot be read."""

    def __init__(self, entries: dict[str, TokenEntry] | None) -> None:
        self._entries = entries

    async def get(self, key: str) -> Entry | None:
        if self._entries is None:
            raise BucketUnavailableError("not now")
        found = self._entries.get(key)
        return Entry(key, encode(found), 1) if found is not None else None


def minted(id_byte: int = 1, secret_byte: int = 1, *, secrets: KeySecrets = SECRETS) -> Minted:
    return mint("kfa", secrets, bytes([id_byte]) * ID_BYTES, bytes([secret_byte]) * SECRET_BYTES)


TOKEN = minted()
ACTIVE = TokenEntry(token_id=TokenId(TOKEN.id), digest=TOKEN.digest, role="platform-admin")
REVOKED = msgspec.structs.replace(ACTIVE, status="revoked")


async def verified(entries: dict[str, TokenEntry] | None, authorization: str | None) -> object:
    """The verdict: a role, or the type of the problem."""
    found = await TokenVerifier(Tokens(entries), SECRETS).verify(authorization)
    return found.kind.type if isinstance(found, Problem) else (found.token_id, found.role)


@pytest.mark.parametrize("role", get_args(Role))
async def test_a_token_is_its_operators(role: Role) -> None:
    entry = msgspec.structs.replace(ACTIVE, role=role)
    assert await verified({TOKEN.id: entry}, f"Bearer {TOKEN.text}") == (TOKEN.id, role)
    assert await verified({TOKEN.id: entry}, f"bearer  {TOKEN.text} ") == (TOKEN.id, role)


@pytest.mark.parametrize("entry", [ACTIVE, REVOKED], ids=["active", "revoked"])
async def test_a_well_formed_token_with_another_secret_is_not_its_operators(entry: TokenEntry) -> None:
    """Shape, tag and CRC are right and the id is registered: without the secret that is worth nothing."""
    forged = minted(secret_byte=2)
    assert (forged.id, parse_id("kfa", forged.text, SECRETS)) == (TOKEN.id, TOKEN.id)
    assert await verified({TOKEN.id: entry}, f"Bearer {forged.text}") == "token_invalid"


@pytest.mark.parametrize(
    ("entries", "authorization", "type_"),
    [
        pytest.param({TOKEN.id: ACTIVE}, None, "token_missing", id="no header"),
        pytest.param({TOKEN.id: ACTIVE}, "", "token_missing", id="an empty header"),
        pytest.param({TOKEN.id: ACTIVE}, f"Basic {TOKEN.text}", "token_invalid", id="another scheme"),
        pytest.param({TOKEN.id: ACTIVE}, f"Digest {TOKEN.text}", "token_invalid", id="a scheme as long as ours"),
        pytest.param(
            {TOKEN.id: msgspec.structs.replace(ACTIVE, role="of-a-newer-version")},
            f"Bearer {TOKEN.text}",
            "forbidden",
            id="a role that is not known here",
        ),
        pytest.param({TOKEN.id: ACTIVE}, f"Bearer {TOKEN.text[:-1]}", "token_invalid", id="cut"),
        pytest.param({}, f"Bearer {TOKEN.text}", "token_invalid", id="not registered"),
        pytest.param({TOKEN.id: REVOKED}, f"Bearer {TOKEN.text}", "token_revoked", id="revoked"),
        pytest.param(None, f"Bearer {TOKEN.text}", "policy_unavailable", id="the bucket cannot be read"),
    ],
)
async def test_who_is_refused(entries: dict[str, TokenEntry] | None, authorization: str | None, type_: str) -> None:
    assert await verified(entries, authorization) == type_


async def test_a_token_of_another_gateway_is_refused() -> None:
    other = minted(secrets=KeySecrets.derive(bytes(32)))
    assert await verified({other.id: ACTIVE}, f"Bearer {other.text}") == "token_invalid"


@pytest.mark.parametrize("role", [*get_args(Role), "of-a-newer-version"])
def test_one_role_may_make_changes(role: str) -> None:
    assert Operator(TokenId(TOKEN.id), role).writes == (role == "platform-admin")
