"""How an append whose outcome is unknown becomes known: append a fence behind it, and fold up to the fence.

A conditional frame whose acknowledgement never came may be stored later: it may lie in a paused server, in a
connection's buffer, in a follower's queue. A read that does not find it proves nothing, nor does the answer to a
retry. But the frame is conditional on the last sequence of the control clock; once the clock has a newer tick, the
server refuses the frame for ever. So: append a tick of one's own (a fence), fold up to it, and look. What is not
there by then never will be.
"""

import asyncio

from keyforge.eventlog.log import Appended, AppendUnknown, EventLog, Expect, Full, Outcome, Stale, Unavailable

FENCE_ATTEMPTS_MAX = 20
FENCE_PAUSE_S = 0.1
FENCE_PAUSE_MAX_S = 1.0


async def append_fence(
    log: EventLog,
    subject: str,
    frame: bytes,
    *,
    last: int,
    attempts_max: int = FENCE_ATTEMPTS_MAX,
    pause_s: float = FENCE_PAUSE_S,
) -> Appended | Stale:
    """Append `frame` to the control clock `subject`, conditional on its last sequence `last` as the caller folded it.

    The same bytes are sent again while the outcome is unknown or the server is not ready: all sends have the same
    condition on the subject that they advance, so at most one is ever stored.

    - `Appended(seq)`: fold up to `seq`; an ambiguous frame that was not seen by then is not stored.
    - `Stale`: a newer tick than `last` is in the log. It may be an earlier send of this fence, so the frame must
      hold something unique (epoch and owner). Fold until a message of `subject` behind `last` arrives, and look.

    Raises AppendUnknown after `attempts_max` attempts, and what `append` raises for misuse.
    """
    why: Outcome | AppendUnknown = Unavailable("not tried")
    for attempt in range(attempts_max):
        if attempt:
            await asyncio.sleep(min(pause_s * attempt, FENCE_PAUSE_MAX_S))
        try:
            outcome = await log.append(subject, frame, expect=Expect(subject, last))
        except AppendUnknown as unknown:
            why = unknown
            continue
        if isinstance(outcome, Appended):
            return outcome
        if isinstance(outcome, Stale) and (outcome.last is None or outcome.last > last):
            return outcome
        # Busy, Full, Unavailable; or Stale from a replica that knows less than we folded: it lags, ask again.
        why = outcome
    raise AppendUnknown(f"no fence on {subject} after {attempts_max} attempts: {why}")


async def append_again(
    log: EventLog,
    subject: str,
    frame: bytes,
    *,
    msg_id: str | None = None,
    attempts_max: int = FENCE_ATTEMPTS_MAX,
    pause_s: float = FENCE_PAUSE_S,
) -> Appended | Full | Unavailable:
    """Append an unconditional frame, sending the same bytes again until it is stored.

    For frames whose fold ignores a second copy (an edge's outcomes: one terminal counts per request). Returns the
    last refusal after `attempts_max` attempts; raises AppendUnknown if any of them might have been stored.
    """
    unknown: AppendUnknown | None = None
    refusal: Full | Unavailable = Unavailable("not tried")
    for attempt in range(attempts_max):
        if attempt:
            await asyncio.sleep(min(pause_s * attempt, FENCE_PAUSE_MAX_S))
        try:
            outcome = await log.append(subject, frame, msg_id=msg_id)
        except AppendUnknown as fault:
            unknown = fault
            continue
        match outcome:
            case Appended():
                return outcome
            case Full() | Unavailable():
                refusal = outcome
            case _:
                raise AppendUnknown(f"{subject}: {outcome} for a frame without a condition")
    if unknown is not None:
        raise unknown
    return refusal
