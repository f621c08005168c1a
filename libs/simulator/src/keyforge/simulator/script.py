"""How the simulated provider behaves: a set of options, selected by a rule, the request, or the name of the model.

The first that applies: a rule posted to `/_sim/script`; the request's own `metadata.sim` (an object, or one as JSON in
a string); a model whose name is in `BY_MODEL`, or is `sim-fault-` and the name of a fault (`faults/table.py`), each
with or without a prefix up to the last slash; else all defaults.
"""

import hashlib
from typing import Any, Final, Literal

import msgspec

from keyforge.simulator.faults.table import MODEL_PREFIX, find

RULES_MAX: Final = 1_000
"""Chosen: every request goes through all of them, and a test has fewer than 10."""


class Behaviour(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One answer. Counts of chunks are of content chunks in a stream."""

    # what is billed and reported; None leaves it to `bill`
    bill: Literal["asked", "worst"] = "asked"
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    usage: bool = True
    content: str | None = None
    reasoning: Literal["reasoning_content", "reasoning"] | None = None  # reasons unasked, into this field
    # instead of all below but the delay of the first byte: a fault by its name, `429-seconds` or `429-seconds-17`
    fault: str | None = None
    # the head
    status: int = 200
    retry_after: str | None = None
    headers: dict[str, str] = {}
    content_type: str | None = None
    location: str | None = None
    huge_header_bytes: int = 0
    close: bool = False
    # time
    first_byte_delay_s: float = 0.0
    chunk_delay_s: float = 0.0
    hang: bool = False
    # the body
    body: str | None = None
    cut_before_head: bool = False
    cut_body_at: int | None = None
    chunks: int = 16
    cut_after_chunks: int | None = None
    malformed_after_chunks: int | None = None
    error_after_chunks: int | None = None
    hang_after_chunks: int | None = None
    done: bool = True


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The behaviour for requests that match everything given here, `times` times (None: always)."""

    model: str | None = None
    path: str | None = None
    credential: str | None = None
    times: int | None = None
    behaviour: Behaviour


class Script(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `/_sim/script`."""

    rules: list[Rule]


ANSWERING: Final[dict[str, Behaviour]] = {
    "sim-small": Behaviour(),
    "sim-large": Behaviour(),
    "sim-embedding": Behaviour(),
    "sim-reasoning": Behaviour(reasoning="reasoning_content"),
    "sim-slow": Behaviour(first_byte_delay_s=2.0),
    "sim-slow-chunks": Behaviour(chunk_delay_s=0.2),
    "sim-worst": Behaviour(bill="worst"),
}
"""The models that do what they are asked, if slowly or at a price: `/models` lists them and no other."""
BY_MODEL: Final[dict[str, Behaviour]] = {
    **ANSWERING,
    "sim-429": Behaviour(status=429, retry_after="1"),
    "sim-500": Behaviour(status=500),
    "sim-401": Behaviour(status=401),
    "sim-hang": Behaviour(hang=True),
    "sim-hang-stream": Behaviour(hang_after_chunks=3),
    "sim-cut": Behaviour(cut_before_head=True),
    "sim-cut-body": Behaviour(cut_body_at=40),
    "sim-cut-stream": Behaviour(cut_after_chunks=3),
    "sim-malformed": Behaviour(malformed_after_chunks=3),
    "sim-not-json": Behaviour(body="<html>not JSON</html>"),
    "sim-error-stream": Behaviour(error_after_chunks=3),
    "sim-no-usage": Behaviour(usage=False),
    "sim-no-done": Behaviour(done=False),
    "sim-redirect": Behaviour(status=307, location="http://127.0.0.1:1/elsewhere"),
    "sim-huge-header": Behaviour(huge_header_bytes=256 * 1024),
    "sim-wrong-type": Behaviour(content_type="text/html"),
    "sim-overrun": Behaviour(prompt_tokens=5_000_000, completion_tokens=5_000_000),
}


class Rules:
    """The current rules."""

    def __init__(self) -> None:
        self._rules: list[tuple[Rule, str | None]] = []
        self._left: list[int | None] = []

    def add(self, script: Script) -> None:
        """Append rules, all or none. Raises ValueError when there are too many, or one has a fault that is none."""
        if len(self._rules) + len(script.rules) > RULES_MAX:
            raise ValueError(f"at most {RULES_MAX} rules")
        for rule in script.rules:
            if rule.behaviour.fault is not None:
                find(rule.behaviour.fault)
        for rule in script.rules:
            secret = None if rule.credential is None else digest(f"Bearer {rule.credential}".encode())
            self._rules.append((rule, secret))
            self._left.append(rule.times)

    def choose(self, path: str, model: str, authorization: str, wanted: object) -> Behaviour:
        """Return the behaviour for a request, and count it against the rule that was selected."""
        for at, (rule, secret) in enumerate(self._rules):
            matches = rule.model in (None, model) and rule.path in (None, path) and secret in (None, authorization)
            left = self._left[at]
            if matches and left != 0:
                self._left[at] = None if left is None else left - 1
                return rule.behaviour
        if wanted is not None:
            return _behaviour(wanted)
        name = model.rpartition("/")[2]
        if name.startswith(MODEL_PREFIX):
            return Behaviour(fault=name.removeprefix(MODEL_PREFIX))
        return BY_MODEL.get(name, _PLAIN)


_PLAIN: Final = Behaviour()


def _behaviour(wanted: object) -> Behaviour:
    """Return the behaviour of a `metadata.sim`. Raises `msgspec.ValidationError` or `DecodeError`."""
    if isinstance(wanted, str):
        return msgspec.json.decode(wanted, type=Behaviour)
    return msgspec.convert(wanted, Behaviour)


def digest(authorization: bytes) -> str:
    """Return what the books show of an Authorization header: they contain no secret."""
    return hashlib.sha256(authorization).hexdigest()


def requested(request: dict[str, Any]) -> object:
    """Return `metadata.sim`, or None."""
    metadata = request.get("metadata")
    return metadata.get("sim") if isinstance(metadata, dict) else None
