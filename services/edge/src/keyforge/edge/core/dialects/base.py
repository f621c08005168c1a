"""The seam between what agents speak and what providers speak (ADR 34).

One priced request lies between an `AgentDialect` and a `ProviderDialect`. What is neutral of it is what pricing needs,
its `Workload`; beside that it keeps the parsed body in the dialect that it came in. The same dialect on both sides
writes that back, and passes answers on byte for byte. Another pair will translate through the form of chat
completions; there is none yet. `registry.py` has the members.
"""

from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from keyforge.contracts.errors import Problem
from keyforge.contracts.events import Endpoint
from keyforge.contracts.usage import Usage
from keyforge.edge.core.dialects.additions import NOTHING, Concessions
from keyforge.edge.core.dialects.provider_error import ProviderError
from keyforge.edge.core.dialects.quirks import Quirks
from keyforge.edge.core.pricing.workload import Workload


class ParsedRequest(msgspec.Struct, frozen=True):
    """A request as its agent sent it, read in the agent's dialect.

    `content` is the dialect's own type; nobody else looks into it. `shows_usage`: the agent asked for the usage of a
    stream. `session`: what the agent calls those requests that share a prompt; empty: it does not say.
    """

    dialect: str
    model: str
    content: Any
    stream: bool = False
    shows_usage: bool = False
    session: str = ""
    ignored: tuple[str, ...] = ()
    """Paths of what it had and says nothing to any provider, so it is not in `content`."""


class Sending(msgspec.Struct, frozen=True):
    """What a request is sent with: the provider's own name of the model, the cap on a completion's tokens, quirks, and
    what the provider made us concede for the model. `again`: it conceded something for this very request."""

    model: str
    cap: int
    quirks: Quirks
    concessions: Concessions = NOTHING
    again: bool = False


class MeteredAnswer(msgspec.Struct, frozen=True):
    """What a whole answer reports. `reported_cost_nusd` is the provider's own reckoning: evidence, never the charge."""

    usage: Usage | None = None
    reported_cost_nusd: int | None = None
    written: bool = True
    """The model made something: there are choices, or embeddings."""
    suspicious: bool = False
    """It may be an error: `provider_error` must look."""
    unclear: bool = False
    """It reports a usage, and none that makes sense: something was billed, and it is not known what."""

    @property
    def billed(self) -> bool:
        """Whether tokens may have been billed, if its usage is not known."""
        return self.written or self.unclear


class Converted(msgspec.Struct, frozen=True):
    """An answer in the form that was asked for, where its provider sent the other one.

    `finished`: every completion has ended, or the stream said that it ends; else it was cut, and is no whole answer.
    """

    body: bytes
    metered: MeteredAnswer
    finished: bool = True


class StreamReader(Protocol):
    """One stream of a provider, without I/O. What comes out of `feed` may be passed on to an agent of its dialect."""

    done: bool
    """The stream said that it ends."""
    error: bytes | None
    """The provider's own error, which ended the stream, on one line."""
    failure: ProviderError | None
    """What `error` says, or what text says that came in place of a stream."""
    malformed: bool
    """It is no stream of the dialect."""
    output_bytes: int
    """Of text that the model wrote, up to what `feed` read last."""
    stray: bytearray
    """What came that is no stream, while nothing had begun: perhaps a whole answer."""

    @property
    def deltas(self) -> int:
        """In how many pieces it wrote."""
        ...

    @property
    def begun(self) -> bool:
        """Whether the model wrote anything, or finished, or its usage or the end has come. Until then what `feed`
        returned may be held back, and an error that comes be an ordinary answer."""
        ...

    @property
    def finished(self) -> bool:
        """Whether every completion has ended."""
        ...

    @property
    def reported_cost_nusd(self) -> int | None:
        """The provider's own reckoning."""
        ...

    @property
    def usage(self) -> Usage | None:
        """What was used, once that is final; None: not known."""
        ...

    def feed(self, piece: bytes) -> bytes:
        """Read a piece and return what may be passed on."""
        ...

    def end(self) -> bytes:
        """The stream ended in good order: return what may be passed on."""
        ...

    def close_event(self) -> bytes:
        """Return what must come before an event of our own."""
        ...


Parser = Callable[[bytes], ParsedRequest | Problem]
Pricer = Callable[[ParsedRequest], Workload]
UsageReader = Callable[[bytes, Workload], MeteredAnswer | None]
"""Reads a whole answer to a request with that workload; None: it is none of the dialect."""


class AskedEndpoint(msgspec.Struct, frozen=True):
    """How requests for one endpoint are read, and what of them has a price."""

    parse: Parser
    price: Pricer


class ServedEndpoint(msgspec.Struct, frozen=True):
    """How one endpoint is called: its path below a provider's base URL; and what reads the usage of a whole answer."""

    target: str
    read_usage: UsageReader


class AgentDialect(Protocol):
    """What agents speak."""

    name: str

    def asked(self, endpoint: Endpoint) -> AskedEndpoint | None:
        """Return how a request for an endpoint is read and priced; None: the dialect lacks it."""
        ...

    def error_event(self, body: bytes) -> bytes:
        """Return the event of a stream that carries an error; `body` is JSON, on any number of lines."""
        ...


class ProviderDialect(Protocol):
    """What providers speak."""

    name: str

    def served(self, endpoint: Endpoint) -> ServedEndpoint | None:
        """Return how an endpoint is called and metered; None: the dialect lacks it."""
        ...

    def fit(self, request: ParsedRequest, quirks: Quirks) -> tuple[str, ...] | Problem:
        """Take out of a request what the provider's API does not know, if that leaves the answer's form and cost as
        they are; else a problem that names the first such field. Returns the paths of all that is not sent. May change
        the request's content."""
        ...

    def render(self, request: ParsedRequest, sending: Sending) -> bytes:
        """Return the body to send; what was priced is what is sent. May change the request's content, and may be called
        again with other concessions."""
        ...

    def conceded(
        self, request: ParsedRequest, workload: Workload, sending: Sending, error: ProviderError
    ) -> Concessions | None:
        """Return what to send a request with once more, after a provider refused something that was added to it; None:
        it refused something else."""
        ...

    def stream(self, request: ParsedRequest, workload: Workload, output_tokens: int, quirks: Quirks) -> StreamReader:
        """Return what reads the answer to a request for a stream, which was rendered; so many tokens of output were
        reserved."""
        ...

    def as_stream(self, body: bytes, request: ParsedRequest, workload: Workload) -> Converted | ProviderError | None:
        """Return a whole answer as the stream that was asked for; None: it is neither an answer nor an error."""
        ...

    def as_whole(self, body: bytes, workload: Workload) -> Converted | ProviderError | None:
        """Return a stream as the whole answer that was asked for; None: it is neither a stream nor an error."""
        ...

    def is_error(self, body: bytes) -> bool:
        """Return whether a provider's error can be read by clients of this dialect."""
        ...
