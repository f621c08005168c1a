"""How a request ended, gathered while it runs and recorded once: completed if any byte of it may have reached a
provider, else cancelled. What is not known counts as spent."""

from datetime import datetime, timedelta

import msgspec

from keyforge.contracts.directory import KeyEntry
from keyforge.contracts.events import Attempt, RequestCancelled, RequestCompleted, UsageSource
from keyforge.contracts.ids import EdgeId, RequestId
from keyforge.contracts.usage import Usage

ATTEMPTS_MAX = 20
"""Recorded of one request: as many as the setting `attempts_max` allows at most, the one that is made once more, and
those that are made without what a provider refused of our additions (`additions.CONCEDED_MAX`)."""
NOTHING = Usage()


class Outcome(msgspec.Struct):
    """What an admitted request has come to so far. Made with the admission, so that whatever happens there is an end.

    `name` is "ok" or a type of the catalogue. `usage` None: not known, the reservation counts as spent.
    """

    request_id: RequestId
    key: KeyEntry
    edge: EdgeId
    admitted_at: datetime
    time_limit_s: int
    secret_version: int
    name: str = "request_cancelled"
    status: int = 0
    usage: Usage | None = None
    source: UsageSource = "none"
    reported_cost_nusd: int | None = None
    attempts: list[Attempt] = []
    calling: bool = False
    """A physical call is under way that is not among the attempts yet."""
    response_commitment: str = ""
    first_byte_ms: int = 0
    may_be_repeated: bool = False
    """The agent was answered that the same request may succeed later, and nothing was billed for this one."""

    @property
    def sent(self) -> bool:
        """Whether a provider may have seen the request."""
        if self.calling:
            return True
        for attempt in self.attempts:  # noqa: SIM110 - a generator costs a tenth of an outcome here
            if attempt.sent:
                return True
        return False

    @property
    def costs_nothing(self) -> bool:
        """Whether it is known to have cost nothing so far."""
        return self.usage is not None and not self.usage.tokens

    def tried(self, attempt: Attempt) -> None:
        """Note one physical call, now that it has come to something."""
        self.calling = False
        if len(self.attempts) < ATTEMPTS_MAX:
            self.attempts.append(attempt)

    def refused_by_provider(self, name: str, status: int) -> None:
        """The provider answered with an error, and bills nothing for it."""
        self.name, self.status, self.usage, self.source = name, status, NOTHING, "none"

    def answered(self, name: str, status: int, usage: Usage | None, reported_cost_nusd: int | None = None) -> None:
        """The provider answered, and reported what it used (None: it did not, or nothing that makes sense)."""
        self.name, self.status, self.usage = name, status, usage
        self.source = "provider"
        self.reported_cost_nusd = reported_cost_nusd

    def unread(self, name: str) -> None:
        """The provider closed the connection before it read the call: it made nothing, and bills nothing."""
        self.refused_by_provider(name, 0)

    def unsent(self, name: str) -> None:
        """A call failed before any byte of it was sent: what was known of earlier ones stays."""
        self.name = name

    def unknown(self, name: str, status: int = 0) -> None:
        """The request was sent, and it is not known what it used."""
        self.name, self.status, self.usage, self.source, self.reported_cost_nusd = name, status, None, "provider", None

    def event(self, duration_ms: int) -> RequestCompleted | RequestCancelled:
        """Return what is recorded."""
        if not self.sent:
            return cancelled(
                self.request_id, self.key, self.edge, self.name, self.admitted_at + timedelta(seconds=self.time_limit_s)
            )
        usage = None if self.calling else self.usage
        return RequestCompleted(
            request_id=self.request_id,
            tenant=self.key.tenant,
            key_id=self.key.key_id,
            edge=self.edge,
            status=self.status,
            outcome=self.name,
            may_be_repeated=self.may_be_repeated,
            usage=usage,
            usage_source="bound" if usage is None else self.source,
            reported_cost_nusd=self.reported_cost_nusd,
            attempts=tuple(self.attempts),
            response_commitment=self.response_commitment,
            first_byte_ms=self.first_byte_ms,
            duration_ms=duration_ms,
            secret_version=self.secret_version,
        )


def cancelled(request_id: RequestId, key: KeyEntry, edge: EdgeId, reason: str, deadline: datetime) -> RequestCancelled:
    """Return the event of a request that was given up before any byte of it went to a provider."""
    return RequestCancelled(
        request_id=request_id, tenant=key.tenant, key_id=key.key_id, edge=edge, reason=reason, deadline=deadline
    )
