"""The state of the simulated provider that all connections share: rules, books, prompts, the API that controls it."""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Final
from urllib.parse import parse_qs

import msgspec

from keyforge.simulator import answers
from keyforge.simulator.books import PAGE_MAX, Books
from keyforge.simulator.prompt_cache import PromptCache
from keyforge.simulator.script import Rules, Script

_NUMBER: Final = re.compile("[0-9]{1,18}")
_NO_PAGE: Final = "`after` and `limit` must be whole numbers of at most 18 digits."
_PAGE: Final = (("after", "0"), ("limit", str(PAGE_MAX)))


class Provider:
    """Rules, books, what was read of prompts, and the provider's clock, in UTC."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.clock = clock
        self.rules = Rules()
        self.books = Books()
        self.prompts = PromptCache()

    def control(self, method: str, path: str, query: str, body: bytes) -> tuple[int, bytes]:
        """Answer the control API."""
        match method, path:
            case "GET", "/_sim/books":
                parameters = parse_qs(query)
                given = [parameters.get(name, [default])[0] for name, default in _PAGE]
                if not all(_NUMBER.fullmatch(text) for text in given):
                    return 400, answers.error(400, _NO_PAGE)
                return 200, msgspec.json.encode(self.books.page(*map(int, given)))
            case "POST", "/_sim/reset":
                self.rules, self.books, self.prompts = (
                    Rules(),
                    Books(),
                    PromptCache(),
                )  # open requests continue in the old ones
            case "POST", "/_sim/script":
                try:
                    self.rules.add(msgspec.json.decode(body, type=Script))
                except ValueError as error:
                    return 400, answers.error(400, str(error))
            case _:
                return 404, answers.error(404, "Unknown control route.")
        return 200, b"{}"
