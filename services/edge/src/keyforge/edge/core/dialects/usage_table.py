"""Reads what a provider counted, under whichever names, into disjoint buckets that add up to its own total, or None.

Unknown is never zero: a count that is negative, fractional, absurd or no number, parts larger than their whole, or
nothing but zeros make the usage unknown, and the request settles at its reservation. Where an answer can be read in
two ways, the one with more tokens counts, and of two prices for a token the higher one.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from keyforge.contracts.usage import Usage
from keyforge.edge.core.dialects.usage_names import LISTS, PLACES, SPELLINGS, STEPS, Part, Paths, Spelling

TOKENS_MAX: Final = 1_000_000_000
"""A larger count is absurd: contexts have some millions of tokens."""
DIGITS_MAX: Final = len(str(TOKENS_MAX))
"""A count in a string has no more digits than the largest."""
ENTRIES_MAX: Final = 256
"""In a list of counts, or of steps with a usage each; with more it makes no sense. Chosen: 10 modalities are known, and
doubled it would save nobody."""

ROOTS: Final = (*dict.fromkeys(place.partition(".")[0] for place in PLACES), "choices")
"""What `places` reads of a document."""

_Tree = dict[str, Any]
"""By name the path of a count, or the tree of the object inside."""


class _Unreadable(Exception):
    """Something stands where a count should, and is none."""


def _tree() -> _Tree:
    root: _Tree = {}
    for spelling in SPELLINGS:
        for path in spelling.paths():
            *objects, name = path.split(".")
            inner = root
            for one in objects:
                inner = inner.setdefault(one, {})
            inner[name] = path
    return root


_TREE: Final = _tree()
_NOTHING: Final = Usage()
_ORDER: Final = tuple(Usage.__struct_fields__)
_MADE: Final = ("output_tokens", "reasoning_tokens", "output_audio_tokens")
_GIVEN: Final = tuple(name for name in _ORDER if name not in _MADE)


def places(document: Mapping[str, Any]) -> Iterator[object]:
    """Yield what an answer, or an event of a stream, reports as usage, wherever it is. Inside `choices` it is that of
    one completion, so it counts where there is one alone."""
    for place in PLACES:
        found: Any = document
        for name in place.split("."):
            found = found.get(name) if isinstance(found, Mapping) else None
        if isinstance(found, Mapping) or (found is not None and place == PLACES[0]):
            yield found
    choices = document.get("choices")
    if isinstance(choices, list) and len(choices) == 1 and isinstance(choices[0], Mapping):
        found = choices[0].get("usage")
        if isinstance(found, Mapping):
            yield found


def reported(
    document: Mapping[str, Any], before: Usage | None = None, *, embeddings: bool = False, hour: bool = False
) -> Usage | None:
    """Return what is known after an answer, or an event of a stream: what it reports in any place, or else `before`."""
    known = before
    for fields in places(document):
        if not is_blank(fields):
            known = later(known, fields, embeddings=embeddings, hour=hour)
            if known is None:
                return None
    return known


def is_blank(fields: object) -> bool:
    """Return whether a usage counts nothing: all that it names is zero or null, or it names nothing."""
    try:
        return not any(_counts(fields).values())
    except _Unreadable:
        return False


def read(fields: object, *, embeddings: bool = False, hour: bool = False, partial: bool = False) -> Usage | None:
    """Turn a decoded usage into buckets, or None where it makes no sense.

    `embeddings` have no completion. `hour`: the request asked for caches of an hour, so what is written counts as such
    unless the provider says which. `partial`: the prompt or the completion may be absent, as it was reported before.
    """
    try:
        counts = _counts(fields)
    except _Unreadable:
        return None
    found = _best(counts, embeddings=embeddings, hour=hour, partial=partial)
    steps = fields.get(STEPS) if isinstance(fields, Mapping) else None
    return _with_steps(found, steps, hour=hour) if found is not None and steps else found


def later(before: Usage | None, fields: object, *, embeddings: bool = False, hour: bool = False) -> Usage | None:
    """Return what is known once one more usage of the same answer was reported, after the one that came to `before`.

    The last counts, as providers report what was used so far. Its prompt, or its completion, does not where there is
    nothing in it: zeros after the truth do not replace it. One that makes no sense makes all unknown.
    """
    if before is None:
        return read(fields, embeddings=embeddings, hour=hour)
    if is_blank(fields):
        return before
    after = read(fields, embeddings=embeddings, hour=hour, partial=True)
    return None if after is None else merged(before, after)


def made(usage: Usage) -> int:
    """Return how many tokens the model made."""
    return usage.output_tokens + usage.reasoning_tokens + usage.output_audio_tokens


def merged(before: Usage, after: Usage) -> Usage:
    """Return `after`, and of `before` the prompt or the completion where `after` has none."""
    if (after.input_tokens or after.cache_read_tokens) and (after.output_tokens or after.reasoning_tokens):
        return after
    kept = [side for side in (_GIVEN, _MADE) if not any(getattr(after, name) for name in side)]
    return msgspec.structs.replace(after, **{name: getattr(before, name) for side in kept for name in side})


def _with_steps(found: Usage, steps: object, *, hour: bool) -> Usage | None:
    """Return what all steps of a request come to, where they are more than the counts of the whole. None: one was of
    another model, whose price is not known here, or makes no sense."""
    if not isinstance(steps, list) or len(steps) > ENTRIES_MAX:
        return None
    summed = dict.fromkeys(_ORDER, 0)
    for step in steps:
        if is_blank(step):
            continue
        one = None if "model" in step else read(step, hour=hour)
        if one is None:
            return None
        for name in _ORDER:
            summed[name] += getattr(one, name)
    return max(found, Usage(**summed), key=lambda usage: usage.tokens)


def _best(counts: Mapping[str, int], *, embeddings: bool, hour: bool, partial: bool) -> Usage | None:
    """Read it in each spelling that it may be in; None where one of them makes no sense."""
    best = _NOTHING
    for spelling in SPELLINGS:
        if spelling.prompt not in counts and spelling.completion not in counts and not embeddings:
            continue
        if spelling.only_with and spelling.only_with not in counts:
            continue
        if spelling.not_with and spelling.not_with in counts:
            continue
        found = _embedded(counts, spelling) if embeddings else _completed(counts, spelling, hour=hour, partial=partial)
        if found is None:
            return None
        if found.tokens > best.tokens:
            best = found
    return best if best.tokens else None


def _embedded(counts: Mapping[str, int], spelling: Spelling) -> Usage:
    """Embeddings have one price: all is input, whatever it was. A total alone is enough, and so is a prompt."""
    given = counts.get(spelling.prompt, 0) + sum(_parts(counts, spelling.beside).values())
    return Usage(input_tokens=max(given, counts.get(spelling.total, 0)))


def _completed(counts: Mapping[str, int], spelling: Spelling, *, hour: bool, partial: bool) -> Usage | None:
    """Return nothing where it is not in this spelling, None where it makes no sense in it."""
    prompt, completion = counts.get(spelling.prompt), counts.get(spelling.completion)
    total = counts.get(spelling.total, 0)
    if completion is None and (partial or (spelling.leaves_out_zero and total)):
        completion = 0
    if prompt is None and partial:
        prompt = 0
    if prompt is None or completion is None:
        return _NOTHING
    within, beside = _parts(counts, spelling.within), _parts(counts, spelling.beside)
    if not (prompt or completion or any(beside.values())):
        return _NOTHING
    if spelling.total_is_witness and _is_within(within, beside, prompt + completion, total):
        within = {part: max(within.get(part, 0), beside.get(part, 0)) for part in (*within, *beside)}
        beside = {}
    return _buckets(prompt, completion, total, within, beside, hour=hour)


def _is_within(within: Mapping[Part, int], beside: Mapping[Part, int], whole: int, total: int) -> bool:
    """Return whether what is named beside the prompt is within it: it is named there as well, or the total says so."""
    twice = all(count == within.get(part, 0) for part, count in beside.items())
    return twice or 0 < total <= whole


def _buckets(
    prompt: int, completion: int, total: int, within: Mapping[Part, int], beside: Mapping[Part, int], *, hour: bool
) -> Usage | None:
    written, written_1h = _written(within, hour=hour)
    written_beside, written_1h_beside = _written(beside, hour=hour)
    read_ = within.get("read", 0)
    audio = within.get("audio", 0) - min(within.get("read_audio", 0), read_, within.get("audio", 0))
    plain = prompt - read_ - written - written_1h - audio
    if plain < 0:  # Gemini through OpenRouter bills the same tokens as read and as written
        plain = prompt - max(read_, written + written_1h) - audio
    plain += beside.get("more", 0)
    reasoning, spoken = within.get("reasoning", 0), within.get("spoken", 0)
    thought = beside.get("reasoning", 0)
    given_beside = beside.get("more", 0) + beside.get("read", 0) + written_beside + written_1h_beside
    unseen = max(0, total - prompt - completion - thought - given_beside)
    reasoning = max(reasoning, unseen)
    shown = completion + unseen - reasoning - spoken
    if plain < 0 or shown < 0:
        return None
    return Usage(
        input_tokens=plain,
        cache_read_tokens=read_ + beside.get("read", 0),
        cache_write_tokens=written + written_beside,
        cache_write_1h_tokens=written_1h + written_1h_beside,
        input_audio_tokens=audio,
        output_tokens=shown,
        reasoning_tokens=reasoning + thought,
        output_audio_tokens=spoken,
    )


def _written(parts: Mapping[Part, int], *, hour: bool) -> tuple[int, int]:
    """Return what was written for minutes and for an hour."""
    minutes, hours = parts.get("written_5m", 0), parts.get("written_1h", 0)
    unsplit = max(0, parts.get("written", 0) - minutes - hours)
    return (minutes, hours + unsplit) if hour else (minutes + unsplit, hours)


def _parts(counts: Mapping[str, int], names: Paths) -> dict[Part, int]:
    found: dict[Part, int] = {}
    for part, paths in names.items():
        there = [counts[path] for path in paths if path in counts]
        if there:
            found[part] = there[0] if part == "read" else max(there)
    return found


def _counts(fields: object) -> dict[str, int]:
    """Return every count of a usage that has a known name, by its path. Raises _Unreadable."""
    found: dict[str, int] = {}
    if not isinstance(fields, Mapping):
        raise _Unreadable
    _collect(fields, _TREE, found)
    return found


def _collect(fields: Mapping[str, Any], tree: _Tree, found: dict[str, int]) -> None:
    for name, value in fields.items():
        known = tree.get(name)
        if known is None or value is None:
            continue
        if isinstance(known, str):
            found[known] = _count(value)
        elif isinstance(value, Mapping):
            _collect(value, known, found)
        elif isinstance(value, list) and name in LISTS and len(value) <= ENTRIES_MAX:
            _collect_listed(value, name, known, found)
        else:
            raise _Unreadable


def _collect_listed(entries: list[Any], name: str, tree: _Tree, found: dict[str, int]) -> None:
    label, count = LISTS[name]
    for entry in entries:
        if not isinstance(entry, Mapping):
            raise _Unreadable
        path, value = tree.get(str(entry.get(label))), entry.get(count)
        if isinstance(path, str) and value is not None:
            found[path] = found.get(path, 0) + _count(value)


def _count(value: object) -> int:
    """Return a count: a whole number, as an integer, as a float or as digits in a string. Raises _Unreadable."""
    number = value
    if isinstance(value, float):
        number = int(value) if value.is_integer() else None
    elif isinstance(value, str):
        number = int(value) if len(value) <= DIGITS_MAX and value.isascii() and value.isdigit() else None
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= TOKENS_MAX:
        raise _Unreadable
    return number
