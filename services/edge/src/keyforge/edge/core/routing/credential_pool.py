"""Which credential of a provider serves a request: the one that others of its affinity got; after a 429 the next one.

Providers keep prompt caches by account, so what is likely to share a prompt, the requests of one key, stays on one
credential while that is healthy. Which one is a function of the affinity and of the members (weighted rendezvous
hashing): nothing is kept for a key, all edges agree, and when a member comes or goes only the keys that it wins or held
move. Many keys are spread by weight.

Providers limit an account's requests by model: what cools down is a group for one model, so that requests for a busy
one hold up no request for others. An account without money cools down for all models.

Times are monotonic seconds and given by the caller.
"""

import math
from collections.abc import Collection, Iterable
from hashlib import blake2b
from typing import Final

import msgspec

from keyforge.contracts.ids import CredentialId

COOLDOWN_S_DEFAULT: Final = 5.0
"""After a 429 that names no time. Chosen: halved, a busy group costs a lost call every 2.5 s; doubled, a quota that
refills all the time lies idle for longer. A group is tried again only when a request needs it."""
COOLDOWN_S_MAX: Final = 3600.0
"""A provider that names a longer time is tried again after this. Chosen: an hour, so that a wrong header heals, and a
quota of a day costs at most 24 lost calls."""
QUOTA_COOLDOWN_S: Final = 300.0
"""After a 429 or 402 that waiting does not lift, the account having no money. Chosen: it costs 12 lost calls an hour,
and is used at most 5 minutes after a top-up."""
REFUSED_S: Final = 60.0
"""How long a credential that the provider refused (401) is not used. Chosen: a revoked one costs at most 60 lost calls
an hour; one that was refused by mistake is used again after a minute."""
_BITS: Final = 64
_MASK: Final = (1 << _BITS) - 1
_LOG_RANGE: Final = _BITS * math.log(2)


class PooledCredential(msgspec.Struct):
    """One credential in its pool. `factor` is odd, and a function of its id; `share` is one part of its weight."""

    credential: CredentialId
    weight: int
    group: str
    refused_until: float = 0.0
    factor: int = 1
    share: float = 1.0

    def __post_init__(self) -> None:
        self.factor = _digest(self.credential.encode()) | 1
        self.share = 1 / self.weight


class CredentialPool:
    """The credentials of one provider. Those of one quota group share its quota, so they cool down together.

    `model` is the one that is asked for; "" stands for all of them.
    """

    def __init__(self, members: Iterable[PooledCredential] = ()) -> None:
        self._members = {member.credential: member for member in members}
        self._even = _weigh_the_same(self._members.values())
        self._cooldowns: dict[tuple[str, str], float] = {}  # until when, by group and model

    def __len__(self) -> int:
        return len(self._members)

    def renew(self, members: Iterable[PooledCredential]) -> None:
        """Replace the members by these; one that was a member before keeps its state."""
        fresh: dict[CredentialId, PooledCredential] = {}
        for member in members:
            known = self._members.get(member.credential)
            if known is not None:
                member.refused_until = known.refused_until
            fresh[member.credential] = member
        self._members, self._even = fresh, _weigh_the_same(fresh.values())
        groups = {member.group for member in fresh.values()}
        self._cooldowns = {key: until for key, until in self._cooldowns.items() if key[0] in groups}

    def pick(
        self,
        now: float,
        model: str = "",
        *,
        affinity: str = "",
        tried: Collection[CredentialId] = (),
        limited: Collection[str] = (),
    ) -> CredentialId | None:
        """Return the first credential in the order of this affinity that is healthy, not `tried`, and not of a group
        `limited` in this request."""
        best, highest, cooldowns = None, -math.inf, self._cooldowns
        digest = _digest(affinity.encode()) if len(self._members) > 1 else 1
        for member in self._members.values():
            # Multiplying by an odd number is a hash good enough of what is one already. Its logarithm over the weight
            # makes the member with twice the weight win twice as often; where all weigh the same, it changes no order.
            score: float = digest * member.factor & _MASK
            if not self._even:
                score = (math.log(score + 1) - _LOG_RANGE) * member.share
            if score <= highest:
                continue
            if (self._healthy_from(member, model) if cooldowns else member.refused_until) > now:
                continue
            if member.credential in tried or member.group in limited:
                continue
            best, highest = member.credential, score
        return best

    def group_of(self, credential: CredentialId) -> str:
        """Return the quota group of a credential; empty if it has gone."""
        member = self._members.get(credential)
        return member.group if member else ""

    def limit(self, credential: CredentialId, now: float, cooldown_s: float, model: str = "") -> None:
        """The provider answered 429: the whole group cools down for this model. An earlier, longer cooldown stays."""
        member = self._members.get(credential)
        if member is not None:
            self._cooldowns = {key: until for key, until in self._cooldowns.items() if until > now}
            until = now + min(max(cooldown_s, 0.0), COOLDOWN_S_MAX)
            self._cooldowns[member.group, model] = max(self._cooldowns.get((member.group, model), 0.0), until)

    def refuse(self, credential: CredentialId, now: float) -> None:
        """The provider does not accept the credential."""
        member = self._members.get(credential)
        if member is not None:
            member.refused_until = max(member.refused_until, now + REFUSED_S)

    def refused(self, now: float) -> bool:
        """Return whether the provider accepts none of the credentials: then it is no limit that is to be waited for."""
        return all(member.refused_until > now for member in self._members.values())

    def ready(self, now: float, model: str = "") -> bool:
        """Return whether some credential is healthy."""
        cooldowns = self._cooldowns
        for member in self._members.values():
            if (self._healthy_from(member, model) if cooldowns else member.refused_until) <= now:
                return True
        return False

    def ready_in_s(self, now: float, model: str = "") -> float | None:
        """Return how long until the first credential is healthy again: 0 now, None never (there is none)."""
        waits = [max(self._healthy_from(member, model), now) - now for member in self._members.values()]
        return min(waits) if waits else None

    def _healthy_from(self, member: PooledCredential, model: str) -> float:
        """Return from when on a credential is healthy."""
        until = self._cooldowns
        return max(member.refused_until, until.get((member.group, ""), 0.0), until.get((member.group, model), 0.0))


def _weigh_the_same(members: Iterable[PooledCredential]) -> bool:
    return len({member.weight for member in members}) <= 1


def _digest(text: bytes) -> int:
    return int.from_bytes(blake2b(text, digest_size=_BITS // 8).digest(), "big")


def pause_after(named_s: float | None, *, quota_exhausted: bool = False) -> float:
    """Return how long to cool down after a 429, which asked to wait for `named_s` (None or 0: it did not say)."""
    pause_s = min(named_s or 0.0, COOLDOWN_S_MAX)
    if quota_exhausted:
        return max(pause_s, QUOTA_COOLDOWN_S)
    return pause_s or COOLDOWN_S_DEFAULT
