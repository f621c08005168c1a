"""Which credentials seeding made, so that it ends those of a variable that is gone or changed, and no others.

A credential has a quota group that tells a home which secret it is, and nobody else anything. The group is written into
the home before the credential is added, and the first credential in it is seeding's: an operator cannot know its name
before that, and may add others to it later.
"""

import hashlib
import hmac
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Final, Literal, get_args

from keyforge.embedded.errors import StackError

PREFIX: Final = "env-"
DIGITS: Final = 16
"""Of the HMAC: 64 bits, so that no two secrets of a home meet."""

State = Literal["made", "ending", "ended"]
"""`made`: seeding adds it once, whatever becomes of it. `ending` and `ended`: seeding revokes it, or did."""


@dataclass(frozen=True, slots=True)
class Seeded:
    """One credential that seeding made, or is about to make."""

    provider: str
    group: str
    state: State = "made"

    @property
    def value(self) -> str:
        """The group that tells the secret, of which this is one use."""
        return self.group[: len(PREFIX) + DIGITS]


@dataclass(frozen=True, slots=True)
class Credential:
    """A credential as the service `keys` lists it."""

    id: str
    group: str
    active: bool


@dataclass(frozen=True, slots=True)
class AddCredential:
    """Give a provider the credential of a variable."""

    seeded: Seeded
    variable: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class RevokeCredential:
    """Revoke a credential whose variable is gone, or has another value."""

    seeded: Seeded
    variable: str
    id: str
    gone: bool


@dataclass(frozen=True, slots=True)
class Remember:
    """Write down what is the case already: no credential changes."""

    seeded: Seeded


@dataclass(frozen=True, slots=True)
class LeaveRevoked:
    """The credential of a variable was revoked by an operator: it stays so."""

    seeded: Seeded
    variable: str


CredentialStep = AddCredential | RevokeCredential | Remember | LeaveRevoked


def quota_group(provider: str, secret: str, base_url: str, mark: bytes) -> str:
    """Return what tells the credential of a secret for an address; `mark` is the home's own secret."""
    text = f"{provider}\n{base_url}\n{secret}".encode()
    return PREFIX + hmac.digest(mark, b"keyforge/seed/v1\n" + text, hashlib.sha256).hex()[:DIGITS]


def steps(
    provider: str,
    variable: str,
    wanted: str | None,
    secret: str,
    *,
    known: Collection[Seeded],
    credentials: Sequence[Credential],
) -> Iterator[CredentialStep]:
    """Yield what makes `wanted`, the group of the variable's secret, the only one in use; None: the variable is gone.

    `known` is what seeding wrote down of this provider, `credentials` what there is of it in order of addition, revoked
    ones included. The new one comes first, so that no request meets a provider without any.
    """
    first = {one.group: one for one in reversed(credentials)}
    if wanted is not None:
        mine = [one for one in known if one.value == wanted]
        kept = next((one for one in mine if one.state == "made"), None)
        if kept is None and not mine and wanted in first:  # of a home that wrote nothing down
            kept = Seeded(provider, wanted)
            yield Remember(kept)
        if kept is None:
            taken = {one.group for one in known} | first.keys()
            kept = Seeded(provider, next(name for name in _names(wanted) if name not in taken))
        if kept.group not in first:
            yield AddCredential(kept, variable, secret)
        elif not first[kept.group].active:
            yield LeaveRevoked(kept, variable)
    for one in known:
        made = first.get(one.group)
        if one.state == "ended" or (one.state == "made" and one.value == wanted):
            continue
        if made is not None and made.active:
            yield RevokeCredential(one, variable, made.id, gone=wanted is None)
        elif made is None or one.state == "ending":
            yield Remember(Seeded(provider, one.group, "ended"))


def _names(group: str) -> Iterator[str]:
    """Yield the names of the uses of one secret: it may come back after it was gone."""
    yield group
    for number in count(2):
        yield f"{group}-{number}"


def read(path: Path) -> list[Seeded]:
    """Return what was written down; nothing if there is no such file yet. Raises StackError."""
    try:
        found = [Seeded(**one) for one in json.loads(path.read_bytes())]
        texts = all(isinstance(text, str) for one in found for text in asdict(one).values())
        sound = texts and all(one.state in get_args(State) for one in found)
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, RecursionError):
        sound = False
    if not sound:
        raise StackError(f"{path} must hold the credentials that `up` made; restore it from a backup of this home")
    return found


def text(known: Mapping[str, Seeded]) -> str:
    """Return the content of that file; `known` is by quota group."""
    return json.dumps([asdict(one) for one in known.values()], indent=2) + "\n"
