"""All faults by name, how a name is read (it may end in a number), and the table that the documentation shows."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Final, NamedTuple

from keyforge.simulator.faults import errors, statuses, streams, usages, waits
from keyforge.simulator.faults.fault import SECONDS_MAX, SIZE_BYTES_MAX, ProviderFault

MODEL_PREFIX: Final = "sim-fault-"
"""Of the models that answer with a fault."""

GROUPS: Final[Mapping[str, Mapping[str, ProviderFault]]] = {
    "Answers that are none": errors.OTHERS,
    "The credential's fault": statuses.OF_CREDENTIALS,
    "The request's fault": statuses.OF_REQUESTS,
    "The provider's fault; with `Retry-After`": statuses.OF_PROVIDERS,
    "Limits, and how long to wait": waits.WAITS,
    "Redirects": statuses.REDIRECTS,
    "Streams": streams.STREAMS,
    "Silence": streams.TIMES,
    "Connections and codings": streams.CONNECTIONS,
    "Usage": usages.USAGES,
}
FAULTS: Final[Mapping[str, ProviderFault]] = {
    **errors.NAMED,
    **{name: fault for group in GROUPS.values() for name, fault in group.items()},
}


class UnknownFaultError(ValueError):
    """No fault has this name, or its number is out of bounds. The text is for who asked."""


class NumberedFault(NamedTuple):
    """A fault, and the number that a name or its row gives it: seconds, or bytes; 0 where it has none."""

    fault: ProviderFault
    number: float


def find(name: str) -> NumberedFault:
    """Return the fault of a name, `429-seconds` or, with its number, `429-seconds-17`. Raises UnknownFaultError."""
    fault = FAULTS.get(name)
    if fault is not None:
        return NumberedFault(fault, fault.seconds or fault.size_bytes or 0)
    base, _, text = name.rpartition("-")
    fault = FAULTS.get(base)
    number = _number(text)
    if fault is None or number is None or (fault.seconds is None and fault.size_bytes is None):
        near = get_close_matches(name, FAULTS, n=1)
        hint = f" Did you mean {MODEL_PREFIX}{near[0]}?" if near else ""
        raise UnknownFaultError(f"The simulator has no fault {name[:80]!r}.{hint}")
    most = SECONDS_MAX if fault.size_bytes is None else SIZE_BYTES_MAX
    if number > most:
        raise UnknownFaultError(f"The number of fault {base!r} must be at most {most:.0f}.")
    return NumberedFault(fault, number)


def _number(text: str) -> float | None:
    """Return a decimal number without sign and exponent."""
    whole, _, fraction = text.partition(".")
    digits = whole + fraction
    return float(text) if digits.isascii() and digits.isdigit() and len(digits) <= 12 else None


def markdown() -> str:
    """Return the tables that docs/simulator.md has."""
    parts = [
        _table("PLACE", "where the error stands", {place: about for place, (about, _) in errors.PLACES.items()}),
        _table("SHAPE", "who writes it so", {shape: about for shape, (about, _) in errors.SHAPES.items()}),
    ]
    for title, faults in GROUPS.items():
        parts.append(
            f"### {title}\n\n"
            + _table("name", "what is sent", {f"{name}{_suffix(one)}": one.about for name, one in faults.items()})
        )
    return "\n".join(parts)


def _suffix(fault: ProviderFault) -> str:
    return "" if fault.seconds is None and fault.size_bytes is None else "[-N]"


def _table(first: str, second: str, rows: Mapping[str, str]) -> str:
    return "".join(
        [f"| {first} | {second} |\n|---|---|\n", *(f"| `{name}` | {about} |\n" for name, about in rows.items())]
    )
