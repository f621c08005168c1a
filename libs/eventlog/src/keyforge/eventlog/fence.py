"""Resolves an append whose outcome is unknown.

A conditional frame that was not acknowledged may be stored later: it may be in a paused server, in the buffer of a
connection, in the queue of a follower. Nor is every refusal final: while a leader is being deposed, two servers answer,
the old one Busy or Stale and the new one, later, that it stored the frame. So neither a read that does not find the
frame nor the answer to a retry proves anything, with two exceptions:

- Appended: it is stored (an earlier copy may be as well: a fold ignores the second).
- A tick of the control clock newer than the frame expects, whatever its origin: the server refuses the frame from then
  on. The frame is stored before that tick, or never. Fold up to the tick to find out.

`append_known` sends the same bytes until one of the two is known. Where that fails (or where the caller must invalidate
frames of another owner: a takeover), `append_fence` makes the tick.
"""

import asyncio
from typing import Final

from keyforge.eventlog.log import Appended, AppendUnknown, Busy, EventLog, Expect, Full, Stale, Unavailable

ATTEMPTS_MAX: Final = 20
PAUSE_S: Final = 0.05
PAUSE_MAX_S: Final = 1.0
"""Chosen: 20 attempts with pauses of 0.05 s, 0.1 s and so on wait for 9.5 s. Followers elect a new leader 4 to 9 s
after they last heard of one (nats-server, raft.go)."""


async def append_known(
    log: EventLog,
    subject: str,
    frame: bytes,
    *,
    expect: Expect,
    attempts_max: int = ATTEMPTS_MAX,
    pause_s: float = PAUSE_S,
) -> Appended | Stale:
    """Append a conditional frame, sending the same bytes again while its outcome is unknown.

    - `Appended(seq)`: stored. If a first send was stored too, before it, its fold must ignore the second copy.
    - `Stale(last)`: fold up to `last`; if the frame was not seen by then, it is not stored and never will be.

    Never decide again between two sends of one frame: its ids are what makes a fold ignore the second copy. Raises
    AppendUnknown after `attempts_max`; its text contains the last answer (full, not connected, ...). Then a fence must
    precede the next frame.
    """
    why: Busy | Full | Unavailable | AppendUnknown = Unavailable("not tried")
    for attempt in range(attempts_max):
        if attempt:
            await asyncio.sleep(min(pause_s * attempt, PAUSE_MAX_S))
        try:
            outcome = await log.append(subject, frame, expect=expect)
        except AppendUnknown as unknown:
            why = unknown
            continue
        if isinstance(outcome, Appended | Stale):
            return outcome
        why = outcome
    raise AppendUnknown(f"{subject}: unknown after {attempts_max} sends: {why}")


async def append_fence(
    log: EventLog,
    subject: str,
    frame: bytes,
    *,
    last: int,
    attempts_max: int = ATTEMPTS_MAX,
    pause_s: float = PAUSE_S,
) -> Appended | Stale:
    """Append `frame` to the control clock `subject`, conditional on its last sequence `last` as the caller folded it.

    All sends have the same condition on the subject that they advance, so at most one is ever stored.

    - `Appended(seq)`: fold up to `seq`; an ambiguous frame that was not seen by then is not stored and never will be.
    - `Stale(newer)`: the clock has a newer tick. It may be an earlier send of this fence, so the frame must contain
      something unique (epoch and owner). Fold up to `newer` to find out.

    Raises AppendUnknown after `attempts_max`, and what `append` raises for misuse.
    """
    return await append_known(
        log, subject, frame, expect=Expect(subject, last), attempts_max=attempts_max, pause_s=pause_s
    )
