"""The one verifier of operators' tokens: every service's API uses it, and it fails closed."""

import hmac
from typing import Final, get_args

import msgspec

from keyforge.contracts import keyformat
from keyforge.contracts.directory import TokenEntry
from keyforge.contracts.errors import Problem, problem
from keyforge.contracts.events import Role
from keyforge.contracts.ids import TokenId
from keyforge.contracts.keyformat import KeySecrets
from keyforge.contracts.unreadable import UNREADABLE
from keyforge.runtime.buckets import Bucket, BucketUnavailableError

_SCHEME: Final = "bearer "
ROLES: Final = frozenset(get_args(Role))


class Operator(msgspec.Struct, frozen=True):
    """The holder of a verified token."""

    token_id: TokenId
    role: str

    @property
    def writes(self) -> bool:
        """Whether this role may make changes."""
        return self.role == "platform-admin"


class TokenVerifier:
    """Verifies `Authorization: Bearer kfa_...` against the digests that keys projects into a bucket."""

    def __init__(self, tokens: Bucket, secrets: KeySecrets) -> None:
        self._tokens = tokens
        self._secrets = secrets

    async def verify(self, authorization: str | None) -> Operator | Problem:
        """Return the operator, or the problem to answer with."""
        if not authorization:
            return problem("token_missing")
        if authorization[: len(_SCHEME)].lower() != _SCHEME:
            return problem("token_invalid")
        text = authorization[len(_SCHEME) :].strip()
        token_id = keyformat.parse_id("kfa", text, self._secrets)
        if token_id is None:
            return problem("token_invalid")
        try:
            found = await self._tokens.get(token_id)
        except BucketUnavailableError:
            return problem("policy_unavailable")
        if found is None or found.value is None:
            return problem("token_invalid")
        try:
            entry = msgspec.json.decode(found.value, type=TokenEntry)
        except UNREADABLE:
            return problem("policy_unavailable")
        if not hmac.compare_digest(entry.digest, keyformat.digest(text, self._secrets)):
            return problem("token_invalid")
        if entry.status != "active":
            return problem("token_revoked")
        if entry.role not in ROLES:  # of a newer version: what it may do is not known here
            return problem("forbidden")
        return Operator(entry.token_id, entry.role)
