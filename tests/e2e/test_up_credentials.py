"""A provider's variable over the starts of one home: the provider sees the credential of its present value, or none."""

from collections.abc import Callable

import pytest

from keyforge.simulator.script import digest
from keyforge.testkit.gateway import Gateway, Issued, gateway_of
from keyforge.testkit.stack import Stack

pytestmark = pytest.mark.stack

VARIABLE, PROVIDER, MODEL = "OPENAI_API_KEY", "openai", "sim-environment"
CALLS = 6
"""Of each start: two credentials in rotation would both be seen."""


def used(gateway: Gateway, key: Issued) -> set[str]:
    """Call the provider a few times; return the digests of the credentials that it was shown."""
    before = gateway.books()["requests"]
    for _ in range(CALLS):
        assert gateway.chat(key, model=f"{PROVIDER}/{MODEL}").status_code == 200
    return {entry["authorization"] for entry in gateway.books(after=before)["entries"]}


def shown(secret: str) -> str:
    return digest(f"Bearer {secret}".encode())


def restarted(stack: Stack, secret: str) -> str:
    """Start the home again with another value, none if it is empty; return what this start printed."""
    stack.stop()
    stack.variables = {VARIABLE: secret} if secret else {}
    before = len(stack.printed())
    stack.start()
    return stack.printed()[before:]


def test_only_the_present_value_is_in_use(new_stack: Callable[..., Stack]) -> None:
    stack = new_stack()
    stack.start()
    with gateway_of(stack) as gateway:  # the provider is the simulator: registered here before the variable is set
        settings = {"kind": "openai", "base_url": f"{stack.url('simulator')}/v1", "allow_insecure": True}
        gateway.operator("keys", "POST", "/v1/providers", {"id": PROVIDER, **settings})
        price = {"input_per_mtok": "1", "output_per_mtok": "2", "max_output_tokens": 1000}
        gateway.operator("keys", "PUT", f"/v1/prices/{PROVIDER}/{MODEL}", price)
        gateway.tenant("acme")
        key = gateway.key("acme")

        said = restarted(stack, "fixture-first")
        assert f"{VARIABLE}: added its credential to provider {PROVIDER}" in said
        assert used(gateway, key) == {shown("fixture-first")}

        said = restarted(stack, "fixture-second")
        assert f"{VARIABLE}: added its credential" in said
        assert f"{VARIABLE} has another value: revoked the credential of provider {PROVIDER}" in said
        assert used(gateway, key) == {shown("fixture-second")}

        gateway.operator("keys", "POST", f"/v1/providers/{PROVIDER}/credentials", {"secret": "fixture-operators"})
        said = restarted(stack, "")
        assert f"{VARIABLE} is not set any more: revoked the credential of provider {PROVIDER}" in said
        assert used(gateway, key) == {shown("fixture-operators")}
        assert "fixture" not in stack.printed()
