"""How an append whose outcome is unknown becomes known.

A conditional frame that was not acknowledged may be stored later: it may lie in a paused server, in a connection's
buffer, in a follower's queue. Nor is a refusal always one: while a leader is being deposed, two servers answer, the
old one Busy or Stale and the new one, later, that it stored the frame. So neither a read that does not find the frame
nor an answer to a retry proves anything, except these two:

- Appended: it is stored (an earlier copy may be as well: a fold ignores the second).
- A tick of the control clock newer than the frame expects, wherever it comes from: the server refuses the frame from
  then on. It stands before that tick or never will. Fold up to the tick, and look.

`append_known` sends the same bytes until one of the two is known. Where it cannot be (or where the caller must end
somebody else's frames: a takeover), `append_fence` makes the tick.
"""

import asyncio
from typing import Final

from keyforge.eventlog.log import Appended, AppendUnknown, Busy, EventLog, Expect, Full, Stale, Unavailable

ATTEMPTS_MAX: Final = 20
PAUSE_S: Final = 0.05
PAUSE_MAX_S: Final = 1.0


async def append_known(
    log: EventLog,
    subject: str,
    frame: bytes,
    *,
    expect: Expect,
    attempts_max: int = ATTEMPTS_MAX,
    pause_s: float = PAUSE_S,
) -> Appended | Stale:
    """Append a conditional frame, sending the same bytes again while its outcome is not known.

    - `Appended(seq)`: stored. If a first send was stored too, before it, its fold must ignore the second copy.
    - `Stale(last)`: fold up to `last`; if the frame was not seen by then, it is not stored and never will be.

    Never decide anew between two sends of one frame: its ids are what makes the second copy nothing. Raises
    AppendUnknown after `attempts_max`; its text tells the last answer (full, not connected, ...). Then a fence must
    come before the next frame.
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

    All sends have the same condition on the very subject that they advance, so at most one is ever stored.

    - `Appended(seq)`: fold up to `seq`; an ambiguous frame that was not seen by then is not stored and never will be.
    - `Stale(newer)`: the clock has a newer tick. It may be an earlier send of this fence, so the frame must hold
      something unique (epoch and owner). Fold up to `newer`, and look.

    Raises AppendUnknown after `attempts_max`, and what `append` raises for misuse.
    """
    return await append_known(
        log, subject, frame, expect=Expect(subject, last), attempts_max=attempts_max, pause_s=pause_s
    )


async def append_again(
    log: EventLog,
    subject: str,
    frame: bytes,
    *,
    msg_id: str | None = None,
    attempts_max: int = ATTEMPTS_MAX,
    pause_s: float = PAUSE_S,
) -> Appended | Full | Unavailable:
    """Append an unconditional frame, sending the same bytes again until it is stored.

    For frames whose fold ignores a second copy (an edge's outcomes: one terminal counts per request). Returns the
    last refusal after `attempts_max`; raises AppendUnknown if one of the sends may have been stored.
    """
    unknown: AppendUnknown | None = None
    refusal: Full | Unavailable = Unavailable("not tried")
    for attempt in range(attempts_max):
        if attempt:
            await asyncio.sleep(min(pause_s * attempt, PAUSE_MAX_S))
        try:
            outcome = await log.append(subject, frame, msg_id=msg_id)
        except AppendUnknown as fault:
            unknown = fault
            continue
        if isinstance(outcome, Appended):
            return outcome
        if isinstance(outcome, Full | Unavailable):
            refusal = outcome
        else:
            unknown = AppendUnknown(f"{subject}: {outcome} for a frame without a condition")
    if unknown is not None:
        raise unknown
    return refusal
