"""What budget is asked for is what the agent sent and what will be sent, no less; what may not be sent is not asked."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from keyforge.contracts.directory import KeyEntry
from keyforge.contracts.errors import Problem
from keyforge.contracts.ids import KeyId, RequestId
from keyforge.edge.core.dialects.additions import Additions
from keyforge.edge.core.judge import AgentRequest, PricedRequest, judge
from keyforge.edge.core.settlement.commitment import TenantKey
from tests.unit.edge_twins import CHAT, KEY, NOW, Registry

BODY = b' {"model": "m",  "messages": [{"role": "user", "content": "hello"}]}'
TENANT_KEY = TenantKey(3, bytes(32))


def judged(body: bytes = BODY, *, named: bytes = b"", key: KeyEntry = KEY) -> PricedRequest | str:
    """Return the priced request, or the type of the problem."""
    request = AgentRequest(RequestId("r"), CHAT, body, named, 60_000)
    found = judge(request, key, Registry().catalogue, TENANT_KEY, Additions(), now=NOW)
    return found.kind.type if isinstance(found, Problem) else found


def priced(*args: Any, **kwargs: Any) -> PricedRequest:
    found = judged(*args, **kwargs)
    assert isinstance(found, PricedRequest), found
    return found


@pytest.mark.parametrize(
    ("changed", "type_"),
    [
        ({"status": "revoked"}, "key_revoked"),
        ({"expires_at": NOW}, "key_expired"),
        ({"expires_at": NOW - timedelta(days=1)}, "key_expired"),
        ({"models": ()}, "model_forbidden"),
    ],
)
def test_a_key_that_is_not_in_force_is_not_asked_for(changed: dict[str, Any], type_: str) -> None:
    assert judged(key=msgspec.structs.replace(KEY, **changed)) == type_


def test_what_is_committed_to_are_the_agents_own_bytes() -> None:
    found = priced()
    assert found.outgoing.body != BODY
    assert found.reserve.body_commitment == TENANT_KEY.of(RequestId("r")).of_request(BODY)
    assert found.reserve.secret_version == 3


def test_what_is_reserved_is_the_worst_case_of_what_is_sent() -> None:
    found = priced()
    worst = found.outgoing.worst
    assert (found.reserve.worst_nusd, found.reserve.worst_tokens) == (worst.nusd, worst.tokens)
    assert worst.tokens > worst.output_tokens > 0
    assert (found.reserve.ttl_ms, found.reserve.policy_revision, found.at) == (60_000, KEY.revision, NOW)


def test_a_name_of_a_request_is_its_keys_own() -> None:
    other = msgspec.structs.replace(KEY, key_id=KeyId("k2"))
    named = [priced(named=name, key=key).reserve.idempotency_hash for key in (KEY, other) for name in (b"a", b"b")]
    assert len(set(named)) == 4
    assert None not in named
    assert priced().reserve.idempotency_hash is None
