"""Vocabularies that grow: open words in events, so that an old reader can read a new value and then say what it does.

An event with an unknown word is readable; whether it may be folded is for the fold to decide. What an API takes is one
of the known words.
"""

from typing import Annotated

import msgspec

Word = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
"""A word of a vocabulary, known to this version or not."""
