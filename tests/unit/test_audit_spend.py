"""What a key spent, as the fold knows it: the sum of the ends that count, each request once."""

from datetime import timedelta
from hashlib import sha256

import msgspec
import pytest

from keyforge.audit.core.row_digest import row_digest
from keyforge.audit.core.sealed import KeySpend, RequestEnd
from keyforge.contracts.ids import ModelName, ProviderId
from tests.unit.audit_facts import (
    COST_NUSD,
    EPOCH,
    KEY,
    RESERVED,
    USED,
    Sent,
    abandoned,
    adm,
    admitted,
    begun,
    cancelled,
    completed,
    ctl,
    fold,
    key_created,
    refused,
    use,
)

CHAIN = f"key/acme/{KEY}"
ONE = KeySpend(requests=1, rows=1, settled_nusd=COST_NUSD, tokens=USED.tokens, digest=0)
HELD = KeySpend(requests=1, rows=1, settled_nusd=RESERVED.nusd, tokens=RESERVED.tokens, digest=0)


@pytest.mark.parametrize(
    ("messages", "spend"),
    [
        pytest.param([], None, id="open"),
        pytest.param([use(refused(2))], None, id="refused"),
        pytest.param([use(completed(1))], ONE, id="completed"),
        pytest.param([use(completed(1)), use(completed(1))], ONE, id="completed twice"),
        pytest.param([use(completed(1, usage=None))], HELD, id="usage not known"),
        pytest.param([use(cancelled(1))], KeySpend(0, 1, 0, 0, 0), id="cancelled: a row that is no request"),
        pytest.param([adm(abandoned(1))], HELD, id="abandoned"),
        pytest.param([adm(abandoned(1)), use(completed(1))], ONE, id="a late completion replaces what was presumed"),
        pytest.param(
            [adm(admitted(2)), use(completed(1)), adm(abandoned(2))],
            KeySpend(2, 2, COST_NUSD + RESERVED.nusd, USED.tokens + RESERVED.tokens, 0),
            id="two",
        ),
    ],
)
def test_spend(messages: list[Sent], spend: KeySpend | None) -> None:
    assert sums([begun(), adm(admitted(1)), *messages]).get(CHAIN) == spend


def test_keys_spend_each_for_itself() -> None:
    both = [begun(), ctl(key_created("k2")), adm(admitted(1)), adm(admitted(2, key_id="k2"))]
    assert sums([*both, use(completed(2, key_id="k2"))]) == {"key/acme/k2": ONE}


def sums(messages: list[Sent]) -> dict[str, KeySpend]:
    """What keys spent, without the digests of their rows."""
    return {chain: spend._replace(digest=0) for chain, spend in fold(messages).spend.items()}


# --- the digest of a key's rows ---------------------------------------------------------------------------------------


def encoded(end: RequestEnd) -> bytes:
    """What is hashed of a row, written down once more."""
    admitted = end.admitted
    micros = round((end.admitted_at - EPOCH) / timedelta(microseconds=1))
    request_id, *names = (
        word.encode()
        for word in (
            admitted.request_id,
            admitted.provider,
            admitted.model,
            admitted.endpoint,
            admitted.edge,
            end.settled.terminal,
        )
    )
    numbers = (micros, end.admission, end.settled.nusd, end.settled.tokens)
    lengths = [len(word) for word in (request_id, *names[:-1])]
    sized = [n.to_bytes(8, "little") for n in numbers] + [n.to_bytes(4, "little") for n in lengths]
    return b"".join((*sized, request_id, *names))


def digest_of(ends: list[RequestEnd]) -> int:
    return sum(int.from_bytes(sha256(encoded(end)).digest()[:16], "little") for end in ends) % 2**128


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param([use(completed(1)), use(completed(1))], id="a copy"),
        pytest.param([use(cancelled(1))], id="cancelled"),
        pytest.param([adm(abandoned(1)), adm(abandoned(1))], id="abandoned"),
        pytest.param([adm(abandoned(1)), use(completed(1)), use(completed(1))], id="completed late"),
        pytest.param([adm(abandoned(1)), use(completed(1, usage=None))], id="completed late at what was presumed"),
        pytest.param([use(cancelled(2)), adm(admitted(2)), use(completed(1))], id="cancelled before its admission"),
    ],
)
def test_the_digest_is_that_of_the_last_end_of_each_request(messages: list[Sent]) -> None:
    sealed = fold([begun(), adm(admitted(1)), *messages])
    last = {end.admitted.request_id: end for end in sealed.ends}
    assert sealed.spend[CHAIN].digest == digest_of(list(last.values()))


def test_the_digest_is_the_same_in_any_order() -> None:
    first = [begun(), adm(admitted(1)), adm(admitted(2))]
    ends = [use(completed(1)), adm(abandoned(2)), use(completed(2))]
    assert fold([*first, *ends]).spend == fold([*first, *reversed(ends[:2]), ends[2]]).spend


def test_names_that_are_joined_differently_are_another_row() -> None:
    (end,) = fold([begun(), adm(admitted(1)), use(completed(1))]).ends

    def digest(provider: str, model: str) -> int:
        admitted = msgspec.structs.replace(end.admitted, provider=ProviderId(provider), model=ModelName(model))
        return row_digest(admitted, end.admitted_at, end.admission, end.settled)

    found = {digest(provider, model) for provider, model in (("ab", "c"), ("a", "bc"), ("a\0b", "c"), ("a", "b\0c"))}
    assert len(found) == 4
