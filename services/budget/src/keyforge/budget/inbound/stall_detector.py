"""Notices that this process was paused, after which the bus may deliver messages that lay in its socket.

A process that was paused finds old asks there when it wakes. Their edges have long given up, so after a stall nothing
is accepted until the server has answered a ping: what it had buffered for us arrives before that answer.
"""

import asyncio
from typing import Final

from keyforge.eventlog.nats.client import NatsClient
from keyforge.eventlog.nats.errors import NatsClientError
from keyforge.runtime import logs
from keyforge.runtime.clock import Clock

BEAT_S: Final = 0.25
"""How often the clock is looked at. Chosen: a quarter of STALL_S."""
STALL_S: Final = 1.0
"""A longer time between two beats is a stall. Chosen: half of what an edge waits for an answer."""
PING_S: Final = 2.0
"""How long the server's answer to a ping is waited for. Chosen: as long as an edge waits for an answer to an ask, 2
s."""


class StallDetector:
    """Beats every BEAT_S, and reports a stall until a ping was answered after it."""

    def __init__(self, client: NatsClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._beat_s = clock.monotonic()
        self._stalled = False
        self._timer: asyncio.TimerHandle | None = None
        self._flushing: asyncio.Task[None] | None = None
        self._logger = logs.get("stall")

    def start(self) -> None:
        """Begin to beat."""
        self._beat_s = self._clock.monotonic()
        self._timer = asyncio.get_running_loop().call_later(BEAT_S, self._beat)

    def stop(self) -> None:
        """Stop beating."""
        if self._timer is not None:
            self._timer.cancel()
        if self._flushing is not None:
            self._flushing.cancel()

    def stalled(self) -> bool:
        """Return whether what arrives now may have been sent before a stall."""
        if not self._stalled and self._clock.monotonic() - self._beat_s > STALL_S:
            self._stalled = True
            self._flushing = asyncio.get_running_loop().create_task(self._flush())
        return self._stalled

    def _beat(self) -> None:
        self.stalled()
        self._beat_s = self._clock.monotonic()
        self._timer = asyncio.get_running_loop().call_later(BEAT_S, self._beat)

    async def _flush(self) -> None:
        self._logger.warning("process was paused; dropping what it received meanwhile")
        try:
            await self._client.flush(within_s=PING_S)
        except NatsClientError:
            pass  # a connection that was lost in the meantime has nothing old to deliver
        except Exception:  # nobody awaits this task
            self._logger.exception("what was received while paused could not be dropped")
        finally:
            self._stalled = False
