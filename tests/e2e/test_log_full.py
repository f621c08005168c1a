"""A full log refuses by name and loses nothing: what was under way is settled as soon as there is room again."""

import asyncio
from collections.abc import Callable

import httpx
import nats
import pytest
from nats.js.api import StreamConfig

from keyforge.testkit.gateway import Gateway, error_of, gateway_of
from keyforge.testkit.nats_server import wait_until
from keyforge.testkit.reckoning import reckon
from keyforge.testkit.stack import Stack

pytestmark = pytest.mark.stack

ROOM = 64 * 1024 * 1024


def resize(stack: Stack, bytes_max: Callable[[int], int]) -> None:
    """Give every partition's log another bound, made of its size now, as the one user who may."""

    async def update() -> None:
        password = (stack.home / "secrets" / "nats_admin").read_text("ascii").strip()
        admin = await nats.connect(stack.url("nats"), user="admin", password=password, inbox_prefix=b"_INBOX.admin")
        try:
            streams = admin.jetstream()
            logs = [info for info in await streams.streams_info() if (info.config.name or "").startswith("KF_LOG_")]
            assert logs
            for info in logs:
                config: StreamConfig = info.config
                await streams.update_stream(config.evolve(max_bytes=bytes_max(info.state.bytes)))
        finally:
            await admin.close()

    asyncio.run(update())


def test_full_and_then_room_again(fresh_stack: Stack, new_tenant: Callable[[Gateway], str]) -> None:
    with gateway_of(fresh_stack) as gateway:
        key = gateway.key(new_tenant(gateway), [{"unit": "usd", "window": "day", "cap": "5"}])
        gateway.script({"chunk_delay_s": 0.1, "chunks": 30}, model="sim-slow-chunks")
        body = {"model": "sim/sim-slow-chunks", "messages": [{"role": "user", "content": "hello"}], "stream": True}
        url = f"{fresh_stack.url('edge')}/v1/chat/completions"
        with httpx.stream("POST", url, json=body, headers=key.headers, timeout=30) as stream:
            lines = stream.iter_lines()
            next(lines)  # admitted, and under way
            resize(fresh_stack, lambda now: now + 1)
            before = gateway.books()["requests"]
            for _ in range(3):
                answer = gateway.chat(key)
                assert (answer.status_code, error_of(answer)["type"]) == (503, "log_full")
            assert gateway.books()["requests"] == before
            assert "data: [DONE]" in list(lines)  # who was let in is served to the end
        resize(fresh_stack, lambda _now: ROOM)

        def room_again() -> bool:
            return gateway.chat(key).status_code == 200

        wait_until(room_again, "a request admitted again", timeout_s=60)
        gateway.wait_settled(key)
        account = reckon(fresh_stack).account(key.id)
        assert account.open == 0
        completed = [request for request in account.requests.values() if request.terminal == "completed"]
        assert len(completed) == gateway.books()["requests"]
        assert all(request.completions >= 1 for request in completed)
