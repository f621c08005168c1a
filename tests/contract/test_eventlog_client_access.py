"""Where a client connects and as whom: addresses, users, passwords, permissions."""

import time
import traceback
from collections.abc import Iterator

import pytest

from keyforge.eventlog.nats.client import NatsClient
from keyforge.eventlog.nats.errors import AccessRefused, Disconnected
from keyforge.testkit.nats_client import NatsServer
from keyforge.testkit.nats_server import NatsNode
from keyforge.testkit.ports import free_ports
from tests.contract.nats_hands import PROMPTLY_S, QUICK, WITHIN_S, Messages, Told, echo, open_client

USERS = """
some = ["fine.>", "mine.>"]
authorization { users = [
  { user: all, password: fixture-all },
  { user: some, password: fixture-some, permissions: { publish: $some, subscribe: $some } }
] }
"""


@pytest.fixture(scope="module")
def with_users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsNode]:
    node = NatsNode(tmp_path_factory.mktemp("users"), extra=USERS)
    node.start()
    try:
        yield node
    finally:
        node.stop()


@pytest.mark.parametrize(
    ("user", "password"),
    [("all", "fixture-wrong"), ("nobody", "fixture-all"), ("", "")],
    ids=["password", "user", "none"],
)
async def test_a_wrong_password_shows_at_once(with_users: NatsNode, user: str, password: str) -> None:
    client = NatsClient(with_users.urls, user=user, password=password, bounds=QUICK)
    started = time.monotonic()
    with pytest.raises(AccessRefused, match="Authorization") as caught:
        await client.open(within_s=WITHIN_S)
    assert time.monotonic() - started < PROMPTLY_S
    assert "fixture" not in str(caught.value)
    await client.close()


async def test_a_user_in_the_address_takes_precedence(with_users: NatsNode) -> None:
    url = f"nats://all:fixture%2Dall@127.0.0.1:{with_users.port}"
    async with open_client([url], user="all", password="fixture-wrong") as client:
        await client.flush(within_s=WITHIN_S)


async def test_what_a_user_may_not_do_is_reported_and_the_client_goes_on(with_users: NatsNode) -> None:
    told, heard = Told(), Messages()
    async with (
        open_client(with_users.urls, user="all", password="fixture-all") as other,
        open_client(with_users.urls, user="some", password="fixture-some", inbox_prefix="mine", report=told) as client,
    ):
        echo(other, "fine.echo")
        other.subscribe("secret", heard)
        await other.flush(within_s=WITHIN_S)
        client.publish("secret", b"x")
        await told.of('Permissions Violation for Publish to "secret"')
        client.subscribe("secret", heard)
        await told.of('Permissions Violation for Subscription to "secret"')
        answer = await client.request("fine.echo", b"still here", timeout_s=WITHIN_S)
        assert answer.data == b"you said still here"
        await other.flush(within_s=WITHIN_S)
        assert heard.data == []
        assert client.reconnects == 0


async def test_no_server() -> None:
    client = NatsClient([f"nats://127.0.0.1:{free_ports(1)[0]}"], bounds=QUICK)
    with pytest.raises(Disconnected, match=r"no server at 127\.0\.0\.1:[0-9]+ within 0\.2 s"):
        await client.open(within_s=0.2)
    with pytest.raises(Disconnected):
        await client.wait_connected(within_s=0.01)
    with pytest.raises(Disconnected):
        await client.flush(within_s=WITHIN_S)
    await client.close()


async def test_two_servers_of_which_one_is_dead(nats_node: NatsServer) -> None:
    dead = f"nats://127.0.0.1:{free_ports(1)[0]}"
    for _ in range(8):  # the order is by chance
        async with open_client([dead, *nats_node.urls]) as client:
            await client.flush(within_s=WITHIN_S)


@pytest.mark.parametrize(
    "url", ["", "http://localhost:1", "nats://", "nats://:4222", "nats://h:99999", "nats://u:fix/ture@h"]
)
async def test_what_is_no_address(url: str) -> None:
    with pytest.raises(ValueError, match="not the address") as caught:
        NatsClient(["nats://localhost", url])
    assert "fix" not in "".join(traceback.format_exception(caught.value, chain=True))
