"""Three nats-servers on free loopback ports whose streams have three replicas; a start takes about a second."""

from pathlib import Path

from keyforge.testkit.nats_server import FILE_STORE, START_TIMEOUT_S, NatsNode, wait_until
from keyforge.testkit.ports import free_ports

CLUSTER_SIZE = 3


class NatsCluster:
    """Three nodes whose streams have three replicas."""

    def __init__(self, folder: Path, *, file_store: str = FILE_STORE, extra: str = "") -> None:
        ports = free_ports(3 * CLUSTER_SIZE)
        routes = ports[2 * CLUSTER_SIZE :]
        listed = ", ".join(f"nats://127.0.0.1:{port}" for port in routes)
        self.nodes = [
            NatsNode(
                folder / f"n{i + 1}",
                name=f"n{i + 1}",
                ports=(ports[i], ports[CLUSTER_SIZE + i]),
                file_store=file_store,
                extra=f"cluster {{ name: kf, listen: 127.0.0.1:{routes[i]}, routes: [{listed}] }}\n{extra}",
            )
            for i in range(CLUSTER_SIZE)
        ]

    @property
    def url(self) -> str:
        return ",".join(self.urls)

    @property
    def urls(self) -> list[str]:
        return [node.url for node in self.nodes]

    @property
    def monitor_urls(self) -> list[str]:
        return [node.monitor_url for node in self.nodes]

    @property
    def replicas(self) -> int:
        return CLUSTER_SIZE

    def start(self) -> None:
        for node in self.nodes:
            node.start(wait=False)
        self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until all running nodes follow one meta leader and are healthy."""

        def agreed() -> bool:
            pages = [node.monitor("/jsz") for node in self.nodes if node.running]
            leaders = {page.get("meta_cluster", {}).get("leader") if page else None for page in pages}
            return len(leaders) == 1 and leaders != {None} and leaders != {""}

        wait_until(agreed, "the nodes agree on a meta leader")
        for node in self.nodes:
            if node.running:
                node.wait_ready()

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

    def node(self, name: str) -> NatsNode:
        return next(node for node in self.nodes if node.name == name)

    def stream_leader(self, stream: str, *, timeout_s: float = START_TIMEOUT_S) -> NatsNode:
        """Return the running node that leads `stream`, once all running nodes that answer agree."""

        def leader() -> NatsNode | None:
            named = {self._leader_seen_by(node, stream) for node in self.nodes if node.running}
            found = {name for name in named if name}
            if len(found) != 1:
                return None
            node = self.node(found.pop())
            return node if node.running else None

        return wait_until(leader, f"a leader for {stream}", timeout_s=timeout_s)

    def stream_followers(self, stream: str) -> list[NatsNode]:
        leader = self.stream_leader(stream)
        return [node for node in self.nodes if node is not leader]

    @staticmethod
    def _leader_seen_by(node: NatsNode, stream: str) -> str | None:
        page = node.monitor("/jsz?accounts=true&streams=true") or {}
        for account in page.get("account_details") or []:
            for detail in account.get("stream_detail") or []:
                if detail.get("name") == stream:
                    name = detail.get("cluster", {}).get("leader")
                    return str(name) if name else None
        return None
