"""Which credential of a provider serves a request: by weight among the healthy; after a 429 the next quota group.

Providers limit an account's requests by model: what rests is a group for one model, so that who asks for a busy one
holds nobody up who asks for others. An account without money rests for all.

Times are monotonic seconds and given by the caller. Choice is smooth weighted round robin: no randomness, no bursts.
"""

from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import msgspec

from keyforge.contracts.ids import CredentialId

COOLDOWN_S_DEFAULT: Final = 5.0
"""Rest of a quota group after a 429 that does not say how long."""
COOLDOWN_S_MAX: Final = 3600.0
DATE_CHARS_MAX: Final = 64
"""A longer date is none."""
QUOTA_COOLDOWN_S: Final = 300.0
"""Rest after a 429 that waiting does not lift: the account is out of money."""
BAD_S: Final = 60.0
"""How long a credential that the provider refused is left alone."""


class Member(msgspec.Struct):
    """One credential in its pool."""

    credential: CredentialId
    weight: int
    group: str
    bad_until: float = 0.0
    turn: int = 0


class Pool:
    """The credentials of one provider. Those of one quota group share its quota, so they rest together.

    `model` is whom a question is asked for; "" stands for all of them.
    """

    def __init__(self, members: Iterable[Member] = ()) -> None:
        self._members = {member.credential: member for member in members}
        self._rests: dict[tuple[str, str], float] = {}  # until when, by group and model

    def __len__(self) -> int:
        return len(self._members)

    def renew(self, members: Iterable[Member]) -> None:
        """Take these members in place of the present ones; who was there before keeps its state."""
        fresh: dict[CredentialId, Member] = {}
        for member in members:
            known = self._members.get(member.credential)
            if known is not None:
                member.bad_until, member.turn = known.bad_until, known.turn
            fresh[member.credential] = member
        self._members = fresh
        groups = {member.group for member in fresh.values()}
        self._rests = {rest: until for rest, until in self._rests.items() if rest[0] in groups}

    def pick(
        self, now: float, model: str = "", *, tried: Collection[CredentialId] = (), limited: Collection[str] = ()
    ) -> CredentialId | None:
        """Return the credential whose turn it is: healthy, not `tried`, not of a group `limited` in this request."""
        best: Member | None = None
        total = 0
        for member in self._members.values():
            if self._well_from(member, model) > now:
                continue
            if member.credential in tried or member.group in limited:
                continue
            total += member.weight
            member.turn += member.weight
            if best is None or member.turn > best.turn:
                best = member
        if best is None:
            return None
        best.turn -= total
        return best.credential

    def group_of(self, credential: CredentialId) -> str:
        """Return the quota group of a credential; empty if it has gone."""
        member = self._members.get(credential)
        return member.group if member else ""

    def limit(self, credential: CredentialId, now: float, cooldown_s: float, model: str = "") -> None:
        """The provider said 429: the whole group rests for this model. An earlier, longer rest stays."""
        member = self._members.get(credential)
        if member is not None:
            self._rests = {rest: until for rest, until in self._rests.items() if until > now}
            until = now + min(max(cooldown_s, 0.0), COOLDOWN_S_MAX)
            self._rests[member.group, model] = max(self._rests.get((member.group, model), 0.0), until)

    def refuse(self, credential: CredentialId, now: float) -> None:
        """The provider does not accept the credential."""
        member = self._members.get(credential)
        if member is not None:
            member.bad_until = max(member.bad_until, now + BAD_S)

    def ready(self, now: float, model: str = "") -> bool:
        """Say whether some credential is healthy."""
        for member in self._members.values():  # noqa: SIM110 - a generator costs more than all of it
            if self._well_from(member, model) <= now:
                return True
        return False

    def rest_s(self, now: float, model: str = "") -> float | None:
        """Return how long until the first credential is healthy again: 0 now, None never (there is none)."""
        waits = [max(self._well_from(member, model), now) - now for member in self._members.values()]
        return min(waits) if waits else None

    def _well_from(self, member: Member, model: str) -> float:
        """Return from when on a credential is healthy."""
        rests = self._rests
        if not rests:
            return member.bad_until
        return max(member.bad_until, rests.get((member.group, ""), 0.0), rests.get((member.group, model), 0.0))


def cooldown_s(retry_after_ms: str, retry_after: str, *, quota_exhausted: bool, now: datetime) -> float:
    """Return how long to rest, from the headers of a 429 (empty: absent); `now` (UTC) is what a date is counted from.

    What says nothing that can be read, or a moment that is past, leaves the default.
    """
    told = _number_s(retry_after_ms, 0.001)
    if told is None:
        told = _number_s(retry_after, 1.0)
    if told is None:
        told = _until_s(retry_after, now)
    rest_s = min(told, COOLDOWN_S_MAX)
    if quota_exhausted:
        return max(rest_s, QUOTA_COOLDOWN_S)
    return rest_s or COOLDOWN_S_DEFAULT


def _number_s(text: str, scale: float) -> float | None:
    try:
        seconds = float(text) * scale
    except ValueError:
        return None
    return seconds if seconds >= 0.0 else None


def _until_s(date: str, now: datetime) -> float:
    """Return the seconds until an HTTP date (RFC 9110 section 5.6.7); 0 if it is past, or none."""
    if not 0 < len(date) <= DATE_CHARS_MAX:
        return 0.0
    try:
        until = parsedate_to_datetime(date)
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0.0
    if until.tzinfo is None:  # the old form without a zone, and "-0000": both are UTC
        until = until.replace(tzinfo=UTC)
    return max(0.0, (until - now).total_seconds())
