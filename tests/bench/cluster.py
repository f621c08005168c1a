"""The gateway over three replicas: a NATS cluster on loopback that syncs every message, and the services beside it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from keyforge.contracts import members
from keyforge.embedded import nats_config, secrets, services
from keyforge.embedded.home import Home
from keyforge.embedded.ports import HOST, PortPlan
from keyforge.embedded.secrets import Secrets
from keyforge.testkit.nats_cluster import NatsCluster
from tests.bench.measure import wait_for
from tests.bench.stack import READY_S, Provider, Stack, ended, free_port_base, is_ready, seeded


@contextmanager
def running_on_cluster(folder: Path, providers: Sequence[Provider]) -> Iterator[Stack]:
    """Start three servers, declare with three replicas, start every service but the simulator; stop all at the end."""
    folder.mkdir()
    home, ports = Home(folder / "home"), PortPlan(free_port_base())
    home.prepare()
    own = secrets.load(home)
    passwords = {user: json.dumps(text) for user, text in own.nats_passwords.items()}
    cluster = NatsCluster(
        folder / "nats", extra="\n".join(nats_config.users(services.PARTITIONS_EMBEDDED_MAX, passwords))
    )
    with ExitStack() as closing:
        closing.callback(cluster.stop)
        cluster.start()
        _declare(cluster, own)
        where = {"KEYFORGE_NATS_URL": cluster.url, "KEYFORGE_NATS_MONITOR_URL": ",".join(cluster.monitor_urls)}
        pids = {f"nats {node.name}": node.pid for node in cluster.nodes}
        for service in services.over_the_log(home, ports, own, os.environ):
            if service.name in members.USERS:
                one = replace(service, environment={**service.environment, **where})
                log = closing.enter_context((folder / f"{one.name}.log").open("w"))
                pids[one.name] = closing.enter_context(ended(list(one.command), dict(one.environment), log)).pid
                wait_for(one.name, lambda: is_ready(f"http://{HOST}:{one.port}"), seconds=READY_S)  # noqa: B023
        keys = f"http://{ports.address('keys')}"
        ready = {"edge": f"http://{ports.address('edge')}", "keys": keys, "pids": pids}
        yield Stack(ready, seeded(keys, own.admin_token, providers))


def _declare(cluster: NatsCluster, own: Secrets) -> None:
    told = {
        "KEYFORGE_NATS_URL": cluster.url,
        "KEYFORGE_NATS_MONITOR_URL": ",".join(cluster.monitor_urls),
        "KEYFORGE_NATS_USER": members.ADMIN,
        "KEYFORGE_NATS_PASSWORD": own.nats_passwords[members.ADMIN],
        "KEYFORGE_REPLICAS": str(cluster.replicas),
        "KEYFORGE_KEY_SECRET": own.key_secret,
        "KEYFORGE_EDGE_PUBLIC_KEY": own.edge_public_key,
        "KEYFORGE_COMMITMENT_SECRET": own.commitment_secret,
        "KEYFORGE_AUDIT_MASTER_KEY": own.audit_master_key,
    }
    command = [sys.executable, "-m", "keyforge.cli", "declare"]
    done = subprocess.run(command, env={**os.environ, **told}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"keyforge declare: {done.stdout}{done.stderr}")
