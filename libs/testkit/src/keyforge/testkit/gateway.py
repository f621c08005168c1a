"""A running stack seen from outside: by an operator, by an agent, and in the provider's own books."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import httpx

from keyforge.contracts.money import nusd
from keyforge.testkit.nats_server import wait_until
from keyforge.testkit.stack import Stack

TIMEOUT_S: Final = 30.0
MODEL: Final = "sim/sim-small"


class Issued(NamedTuple):
    """A key created for a test: its tenant, its id, its text."""

    tenant: str
    id: str
    text: str

    @property
    def headers(self) -> dict[str, str]:
        """The headers of an agent with this key."""
        return {"authorization": f"Bearer {self.text}"}


class Gateway:
    """Calls the operators' APIs of a stack, and its edge."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self._client = httpx.Client(timeout=TIMEOUT_S)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def operator(
        self, service: str, method: str, path: str, body: object = None, params: Mapping[str, Any] | None = None
    ) -> Any:
        """Call an operators' API; return the response. Raises AssertionError with the error if it refuses."""
        answer = self._client.request(
            method,
            self.stack.url(service) + path,
            json=body,
            params=params,
            headers={"authorization": f"Bearer {self.stack.admin_token}"},
        )
        if answer.is_error:
            raise AssertionError(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer.json()

    def tenant(self, tenant: str, limits: Sequence[Mapping[str, Any]] = ()) -> None:
        """Create a tenant."""
        self.operator("keys", "POST", "/v1/tenants", {"id": tenant, "name": tenant, "limits": list(limits)})

    def key(self, tenant: str, limits: Sequence[Mapping[str, Any]] = (), **policy: Any) -> Issued:
        """Issue a key of a tenant that exists."""
        body = {"name": "test", "limits": list(limits), **policy}
        made = self.operator("keys", "POST", f"/v1/tenants/{tenant}/keys", body)
        return Issued(tenant, str(made["id"]), str(made["key"]))

    def revoke(self, key: Issued) -> None:
        """Revoke a key."""
        self.operator("keys", "POST", f"/v1/tenants/{key.tenant}/keys/{key.id}/revoke", {"reason": "test"})

    def limits(self, key: Issued) -> list[dict[str, Any]]:
        """Return cap, settled and reserved of every limit on a key's path."""
        found: list[dict[str, Any]] = self._limit_status(key)["limits"]
        return found

    def verdict(self, key: Issued) -> str:
        """Return audit's verdict on the stored chain of a key."""
        return str(self.operator("audit", "GET", f"/v1/tenants/{key.tenant}/keys/{key.id}/verify")["verdict"])

    def spent_nusd(self, tenant: str) -> dict[str, int]:
        """Return what each key of a tenant spent according to audit's analytics, in nano-dollars."""
        found = self.operator("audit", "GET", "/v1/spend", params={"tenant": tenant, "by": "key"})
        return {str(row["group"]["key"]): nusd(row["settled_usd"]) for row in found["rows"]}

    def wait_audited(self, key: Issued, settled_nusd: int, within_s: float = 60.0) -> None:
        """Wait until audit's analytics contain what was settled on a key."""

        def caught_up() -> bool:
            return self.spent_nusd(key.tenant).get(key.id, 0) == settled_nusd

        wait_until(caught_up, f"{settled_nusd} nano-dollars of the key in ClickHouse", timeout_s=within_s)

    def chat(self, key: Issued, **fields: Any) -> httpx.Response:
        """Send one request as the agent."""
        body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], **fields}
        return self._client.post(f"{self.stack.url('edge')}/v1/chat/completions", json=body, headers=key.headers)

    def script(self, behaviour: Mapping[str, Any], **match: Any) -> None:
        """Set how the simulator answers from now on."""
        rule = {**match, "behaviour": dict(behaviour)}
        url = f"{self.stack.url('simulator')}/_sim/script"
        self._client.post(url, json={"rules": [rule]}).raise_for_status()

    def books(self, after: int = 0) -> dict[str, Any]:
        """Return the provider's own books."""
        answer = self._client.get(f"{self.stack.url('simulator')}/_sim/books", params={"after": after})
        page: dict[str, Any] = answer.raise_for_status().json()
        return page

    def billed(self, body_of: str | None = None) -> list[dict[str, Any]]:
        """Return the entries of the books, only those of one model if it is given."""
        entries = self.books()["entries"]
        return [entry for entry in entries if body_of is None or entry["model"] == body_of]

    def wait_settled(self, key: Issued, within_s: float = 60.0) -> list[dict[str, Any]]:
        """Wait until nothing is reserved on a key, in all that the log holds; return its limits then."""

        def settled() -> list[dict[str, Any]] | None:
            status = self._limit_status(key)
            found: list[dict[str, Any]] = status["limits"]
            return found if status["current"] and not any(float(limit["reserved"]) for limit in found) else None

        found: list[dict[str, Any]] = wait_until(settled, "everything of the key settled", timeout_s=within_s)
        return found

    def _limit_status(self, key: Issued) -> dict[str, Any]:
        found: dict[str, Any] = self.operator("budget", "GET", f"/v1/tenants/{key.tenant}/keys/{key.id}/limits")
        return found


@contextmanager
def gateway_of(stack: Stack) -> Iterator[Gateway]:
    """Open a stack's gateway for the duration of the block."""
    gateway = Gateway(stack)
    try:
        yield gateway
    finally:
        gateway.close()


def error_of(answer: httpx.Response) -> dict[str, Any]:
    """Return the error object of a response. Raises AssertionError if it has none."""
    try:
        error: dict[str, Any] = json.loads(answer.content)["error"]
    except (ValueError, KeyError, TypeError) as wrong:
        raise AssertionError(f"no error object: {answer.status_code} {answer.text[:300]}") from wrong
    return error
