"""The same nats-server node as `nats_server.NatsNode`, from its container image (TEST_BACKEND=containers)."""

from pathlib import Path
from typing import Any

from keyforge.testkit.nats_server import ServerFailed, monitor_page, wait_until

IMAGE = "nats:2.15.1"
CLIENT_PORT = 4222
MONITOR_PORT = 8222

_CONFIG = f"""
listen: 0.0.0.0:{CLIENT_PORT}
http: 0.0.0.0:{MONITOR_PORT}
jetstream {{ store_dir: /data, sync_interval: always, max_file_store: 1TB }}
"""


class NatsContainerNode:
    """One server in a container; published ports may change over a kill and a start, so ask for `url` each time."""

    replicas = 1

    def __init__(self, folder: Path) -> None:
        from testcontainers.core.container import DockerContainer

        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "server.conf"
        config.write_text(_CONFIG, encoding="utf-8")
        self._container: Any = (
            DockerContainer(IMAGE)
            .with_exposed_ports(CLIENT_PORT, MONITOR_PORT)
            .with_volume_mapping(str(config), "/etc/nats/test.conf", "ro")
            .with_command("-c /etc/nats/test.conf")
        )

    @property
    def url(self) -> str:
        return f"nats://{self._address(CLIENT_PORT)}"

    @property
    def urls(self) -> list[str]:
        return [self.url]

    @property
    def monitor_url(self) -> str:
        return f"http://{self._address(MONITOR_PORT)}"

    @property
    def monitor_urls(self) -> list[str]:
        return [self.monitor_url]

    def start(self) -> None:
        self._container.start()
        wait_until(self._healthy, f"{IMAGE} healthy")

    def stop(self) -> None:
        self._container.stop()

    def kill(self) -> None:
        self._container.get_wrapped_container().kill()

    def pause(self) -> None:
        self._container.get_wrapped_container().pause()

    def resume(self) -> None:
        self._container.get_wrapped_container().unpause()

    def monitor(self, path: str) -> dict[str, Any] | None:
        """Return the JSON of a monitoring page, None if the node does not answer."""
        host, _, port = self._address(MONITOR_PORT).rpartition(":")
        return monitor_page(host, int(port), path)

    def _healthy(self) -> bool:
        page = self.monitor("/healthz")
        return page is not None and page.get("status") == "ok"

    def _address(self, port: int) -> str:
        host, mapped = self._container.get_container_host_ip(), self._container.get_exposed_port(port)
        if not mapped:
            raise ServerFailed(f"{IMAGE} has not published {port}")
        return f"{host}:{mapped}"
