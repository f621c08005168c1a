"""House rules about words: plain English in the product and its documents, and no code kept from the formatter."""

import re
from collections.abc import Iterator

from tests.tidy.tree import Source, Violation

PLACES = frozenset(
    """
    libs services docs deploy README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md compose.yaml
    """.split()  # noqa: SIM905  # a list of words reads better as words
)
PHRASES = (
    *("anew", "lately", "dearest", "whoever", "told", "untold", "deaf", "hearing"),
    *("for ever", "stands twice", "no such thing", "not believed"),
)
BETWEEN_WORDS = r"[\s#>\"]+"
"""A phrase may go over a line break, with the next line's indentation, its `#` or `>`, or its quotation mark."""
AVOIDED = re.compile(
    rf"(?<![A-Za-z])({'|'.join(phrase.replace(' ', BETWEEN_WORDS) for phrase in PHRASES)})(?![A-Za-z])", re.IGNORECASE
)
"""Also as a word of a name (`refusals_untold`)."""
UNFORMATTED = re.compile(r"#\s*fmt:\s*(skip|off)\b")


def plain_words(source: Source) -> Iterator[Violation]:
    """A reader knows the field's words, and needs no others."""
    if source.parts[0] not in PLACES:
        return
    for match in AVOIDED.finditer(source.text):
        words = " ".join(re.split(BETWEEN_WORDS, match[0]))
        yield source.at(source.text.count("\n", 0, match.start()) + 1, f"`{words}`: say it with the field's word")


def formatted(source: Source) -> Iterator[Violation]:
    """A file that grows too long is split along a seam, not squeezed by hand."""
    if not source.is_product or not source.is_python:
        return
    for number, line in enumerate(source.lines, 1):
        if UNFORMATTED.search(line):
            yield source.at(number, "kept from the formatter: split the file, or let it be formatted")


ALL = (plain_words, formatted)
