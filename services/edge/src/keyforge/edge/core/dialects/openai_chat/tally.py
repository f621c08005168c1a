"""Counts what a stream's chunks report: what the model wrote, which completions ended, what was used."""

from typing import Any

from keyforge.contracts.usage import Usage
from keyforge.edge.core.dialects.openai_chat.chunk import ChatChunk, finishes, written_bytes
from keyforge.edge.core.dialects.openai_chat.usage import later, read_cost_nusd
from keyforge.edge.core.dialects.usage_table import is_blank, made


class Tally:
    """The counts of one stream of so many `completions`."""

    __slots__ = (
        "_cache_1h",
        "_completions",
        "_ended",
        "_usage",
        "begun",
        "deltas",
        "final",
        "finished",
        "output_bytes",
        "reported_cost_nusd",
    )

    def __init__(self, completions: int, *, cache_1h: bool = False) -> None:
        self._cache_1h = cache_1h  # the request asked for caches of an hour
        self._completions = completions
        self._ended: set[str] = set()  # completions with a `finish_reason`
        self._usage: Usage | None = None
        self.reported_cost_nusd: int | None = None
        self.output_bytes = 0
        self.deltas = 0
        self.finished = False
        """Every completion has had its `finish_reason`."""
        self.final = False
        """No more will be written."""
        self.begun = False
        """The model wrote something, or finished, or a usage has come."""

    @property
    def usage(self) -> Usage | None:
        """The last usage that was reported; None if it makes no sense, or the model wrote more after it, or had not
        finished: some providers report with every chunk what was used so far, which is not what they bill. One that
        counts no token of what was written makes no sense."""
        usage = self._usage if self.finished or self.final else None
        return usage if usage is None or not self.output_bytes or made(usage) else None

    def read(self, chunk: ChatChunk) -> None:
        """Take in one chunk."""
        reports = not chunk.choices or chunk.usage is not None or chunk.x_groq is not None
        for choice in chunk.choices or ():
            if written := written_bytes(choice):
                self.deltas += 1
                self.output_bytes += written
                self._usage = None
                self.begun = True
            if choice.finish_reason and finishes(choice):
                if not self.finished:  # so no more than were asked for are kept
                    self._ended.add(str(choice.index))
                    self.finished = len(self._ended) >= self._completions
                self.begun = True
                reports = reports or any((chunk.bedrock, chunk.usage_metadata, chunk.gemini))
            reports = reports or choice.usage is not None
        if reports:
            self.take_usage(chunk)

    def take_usage(self, chunk: ChatChunk) -> bool:
        """Take in what a chunk reports to have been used; return whether it does. Zeros report nothing."""
        found = False
        for usage in self._usages(chunk):
            if usage is None:
                continue
            known = later(self._usage, usage, hour=self._cache_1h)
            if (known is None or known is self._usage) and is_blank(usage):
                continue
            self._usage = known
            self.reported_cost_nusd = read_cost_nusd(usage)
            self.begun = found = True
        return found

    def _usages(self, chunk: ChatChunk) -> list[Any]:
        """Return what a chunk has of usage, in whichever place (`usage_names.PLACES`); the last one counts. In a choice
        (Moonshot) it is that of one completion, so it counts where there is one alone."""
        choices = chunk.choices or ()
        in_choice = choices[0].usage if len(choices) == self._completions == 1 else None
        in_groqs = chunk.x_groq.get("usage") if isinstance(chunk.x_groq, dict) else None
        return [chunk.bedrock, chunk.usage_metadata, chunk.gemini, in_choice, in_groqs, chunk.usage]
