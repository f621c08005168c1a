"""Executes a seeding plan over the HTTP API of `keys`; stores the demo key before anything else happens."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final
from urllib.parse import quote, urlencode

import httpx

from keyforge.contracts import keyformat
from keyforge.contracts.keyformat import KeySecrets
from keyforge.embedded import seed, seeded
from keyforge.embedded.errors import StackError
from keyforge.embedded.home import Home
from keyforge.embedded.secrets import DEMO_KEY, Secrets
from keyforge.embedded.seeded import Credential, Seeded
from keyforge.embedded.supervisor import Report

TIMEOUT_S: Final = 10.0
"""Chosen: twice what keys itself tries to store a command (`APPEND_TIME_LIMIT_S`, 5 s)."""
PAGES_MAX: Final = 100
"""Of 100 entries each: more tenants or providers than that are not what an embedded stack is for."""
_CONFLICT: Final = 409


class Seeding:
    """One seeding of one home."""

    def __init__(
        self, home: Home, secrets: Secrets, keys_url: str, environment: Mapping[str, str], report: Report
    ) -> None:
        self._home = home
        self._report = report
        self._seeded = {one.group: one for one in seeded.read(home.seeded)}
        self._root = bytes.fromhex(secrets.key_secret)
        self._environment = environment
        self._client = httpx.AsyncClient(
            base_url=keys_url,
            headers={"authorization": f"Bearer {secrets.admin_token}"},
            timeout=TIMEOUT_S,
            trust_env=False,
        )

    async def run(self, simulator_url: str) -> str:
        """Execute what remains; return the demo key. Raises StackError."""
        try:
            async with self._client:
                existing = await self._existing(simulator_url)
                steps = seed.plan(existing, simulator_url=simulator_url, environment=self._environment, mark=self._root)
                prices = [step for step in steps if isinstance(step, seed.SetPrice)]
                for step in steps:
                    if not isinstance(step, seed.SetPrice):
                        await self._execute(step)
                await asyncio.gather(*(self._execute(step) for step in prices))
        except httpx.HTTPError as error:
            raise StackError(f"keys did not answer while the stack was seeded: {type(error).__name__}") from error
        stored = self._home.read_secret(DEMO_KEY)
        if stored is None:
            raise StackError(f"{self._home.secrets / DEMO_KEY} vanished while the stack was seeded")
        return stored

    async def _existing(self, simulator_url: str) -> seed.Existing:
        tenants = [tenant["id"] for tenant in await self._list("/v1/tenants")]
        keys = await self._list(f"/v1/tenants/{seed.TENANT}/keys") if seed.TENANT in tenants else []
        providers = {entry["id"]: entry["base_url"] for entry in await self._list("/v1/providers")}
        credentials = {provider: await self._credentials(provider) for provider in providers}
        prices = await self._list("/v1/prices", provider=seed.SIMULATOR)
        models = await self._send("GET", f"{simulator_url}/models", None)
        stored = self._home.read_secret(DEMO_KEY)
        return seed.Existing(
            tenants=tenants,
            keys=[seed.Key(key["id"], key["name"], key["status"] == "active") for key in keys],
            stored_key=keyformat.parse_id("vk", stored, KeySecrets.derive(self._root)) if stored else None,
            providers=providers,
            credentials=credentials,
            seeded=list(self._seeded.values()),
            models=[model["id"] for model in models["data"]],
            prices=[entry["model"] for entry in prices],
        )

    async def _execute(self, step: seed.Step) -> None:
        keys = f"/v1/tenants/{seed.TENANT}/keys"
        match step:
            case seed.CreateTenant():
                await self._send("POST", "/v1/tenants", {"id": seed.TENANT, "name": "Demo"}, once=True)
            case seed.RevokeKey(id=key_id):
                await self._send("POST", f"{keys}/{key_id}/revoke", None)
            case seed.CreateKey():
                limit = {"unit": "usd", "window": "month", "cap": seed.KEY_CAP_USD}
                made = await self._send("POST", keys, {"name": seed.KEY_NAME, "limits": [limit]})
                self._home.write_secret(DEMO_KEY, made["key"])
            case seed.AddProvider(provider=provider):
                wanted = {"id": provider.id, "kind": provider.kind, "base_url": provider.base_url}
                await self._send("POST", "/v1/providers", {**wanted, "allow_insecure": provider.allow_insecure})
            case seed.SetPrice(price=price):
                body: dict[str, Any] = {
                    "input_per_mtok": price.input_per_mtok,
                    "output_per_mtok": price.output_per_mtok,
                    "max_output_tokens": price.max_output_tokens,
                }
                await self._send("PUT", f"/v1/prices/{seed.SIMULATOR}/{quote(price.model)}", body)
            case _:
                await self._execute_credential(step)

    async def _execute_credential(self, step: seeded.CredentialStep) -> None:
        """What is written down comes before what is done: an interrupted start is completed by the next one."""
        one = step.seeded
        path, said = f"/v1/providers/{one.provider}/credentials", ""
        match step:
            case seeded.Remember():
                self._remember(one)
            case seeded.AddCredential(variable=variable, secret=secret):
                self._remember(one)
                await self._send("POST", path, {"secret": secret, "quota_group": one.group})
                said = f"{variable}: added its credential to provider {one.provider}"
            case seeded.RevokeCredential(variable=variable, id=credential, gone=gone):
                self._remember(replace(one, state="ending"))
                reason = f"{variable} is not set any more" if gone else f"{variable} has another value"
                await self._send("POST", f"{path}/{credential}/revoke", {"reason": reason})
                self._remember(replace(one, state="ended"))
                said = f"{reason}: revoked the credential of provider {one.provider} that it had made"
            case seeded.LeaveRevoked(variable=variable):
                said = f"{variable}: its credential of provider {one.provider} was revoked, and is not added again"
        if said and one.provider != seed.SIMULATOR:
            self._report(said)

    def _remember(self, one: Seeded) -> None:
        self._seeded[one.group] = one
        self._home.write(self._home.seeded, seeded.text(self._seeded))

    async def _credentials(self, provider: str) -> list[Credential]:
        found = await self._list(f"/v1/providers/{provider}/credentials")
        return [Credential(one["id"], one["quota_group"], one["status"] == "active") for one in found]

    async def _list(self, path: str, **query: str) -> list[dict[str, Any]]:
        """Return all pages of a list; the last part of its path names it in the response."""
        found: list[dict[str, Any]] = []
        noun = path.rpartition("/")[2]
        for _ in range(PAGES_MAX):
            page = await self._send("GET", f"{path}?{urlencode(query)}" if query else path, None)
            found += page[noun]
            if not page.get("next"):
                return found
            query = {**query, "after": page["next"]}
        raise StackError(f"keys has more than {PAGES_MAX} pages of {path}")

    async def _send(self, method: str, path: str, body: object, *, once: bool = False) -> Any:
        """Send one request. `once`: a conflict means that it exists, which is as good. Raises StackError."""
        answer = await self._client.request(method, path, json=body)
        if answer.is_success or (once and answer.status_code == _CONFLICT):
            return answer.json() if answer.content else None
        try:
            error = answer.json()["error"]
            why = f"{error['type']}: {error['message']}"
        except (ValueError, KeyError, TypeError):
            why = f"status {answer.status_code}"
        raise StackError(f"keys refused {method} {path} while the stack was seeded: {why}")
