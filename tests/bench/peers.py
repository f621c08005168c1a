"""The gateways beside us: how each is installed by name, configured and started for the bench."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
UPSTREAM_SECRET = "fixture-upstream-credential"
GATEWAY_SECRET = "fixture-gateway-key"

PYTHON_PEERS = {
    "ferrogw": ["ferrogw"],
    "litellm": [
        "litellm[proxy]",
        # without these three LiteLLM retries a failing import in every request
        "opentelemetry-api",
        "opentelemetry-sdk",
        "opentelemetry-exporter-otlp",
    ],
}
NODE_PEERS = {"portkey": "@portkey-ai/gateway"}

FERROGW = "strategy:\n  mode: single\ntargets:\n  - virtual_key: openai\n    models: [gpt-4o-mini]\n"
LITELLM = """model_list:
  - model_name: gpt-4o-mini
    litellm_params: {{model: openai/gpt-4o-mini, api_base: "http://127.0.0.1:{upstream}/v1", api_key: {secret}}}
general_settings: {{master_key: {key}}}
litellm_settings: {{telemetry: false, drop_params: true, set_verbose: false}}
"""


@dataclass(frozen=True)
class Peer:
    """One gateway, ready to be started."""

    name: str
    command: list[str]
    url: str
    headers: str
    env: dict[str, str] = field(default_factory=dict)


def install(folder: Path) -> None:
    """Install every peer into `folder`, from PyPI and npm, by name."""
    folder.mkdir(parents=True, exist_ok=True)
    uv = str(ROOT / ".venv-tool/bin/uv")
    ours = Path(sys.executable).resolve()  # a build that runs us faster runs them faster as well
    for name, packages in PYTHON_PEERS.items():
        target = folder / name
        if (target / "bin/python").resolve() != ours:
            subprocess.run([uv, "venv", "-q", "--clear", "-p", str(ours), str(target)], check=True)
            subprocess.run([uv, "pip", "install", "-q", "-p", str(target / "bin/python"), *packages], check=True)
    for name, package in NODE_PEERS.items():
        target = folder / name
        if not (target / "node_modules").exists():
            target.mkdir(exist_ok=True)
            subprocess.run(["npm", "init", "-y"], cwd=target, check=True, stdout=subprocess.DEVNULL)
            subprocess.run(["npm", "install", "--silent", package], cwd=target, check=True)


def ready(folder: Path, scratch: Path, *, upstream: int, ports: list[int]) -> list[Peer]:
    """Return those peers that are installed in `folder`, configured to call 127.0.0.1:`upstream`."""
    found: list[Peer] = []
    bearer = f"Authorization: Bearer {GATEWAY_SECRET}"
    path = "/v1/chat/completions"
    if (folder / "ferrogw/bin/ferrogw").exists():
        (scratch / "ferrogw.yaml").write_text(FERROGW)
        env = {
            "PORT": str(ports[0]),
            "GATEWAY_CONFIG": str(scratch / "ferrogw.yaml"),
            "MASTER_KEY": GATEWAY_SECRET,
            "OPENAI_API_KEY": UPSTREAM_SECRET,
            "OPENAI_BASE_URL": f"http://127.0.0.1:{upstream}/v1",
            "LOG_LEVEL": "error",
            "RATE_LIMIT_RPS": "100000000",  # it limits by default
            "RATE_LIMIT_BURST": "100000000",
        }
        command = [str(folder / "ferrogw/bin/ferrogw"), "serve"]
        found.append(Peer("ferrogw", command, f"http://127.0.0.1:{ports[0]}{path}", bearer, env))
    server = folder / "portkey/node_modules/@portkey-ai/gateway/build/start-server.js"
    if server.exists():
        host = f"http://127.0.0.1:{upstream}/v1"
        config = json.dumps({"provider": "openai", "api_key": UPSTREAM_SECRET, "custom_host": host})
        command = ["node", str(server), f"--port={ports[1]}", "--headless"]
        url = f"http://127.0.0.1:{ports[1]}{path}"
        found.append(Peer("portkey", command, url, f"x-portkey-config: {config}", {"NODE_ENV": "production"}))
    if (folder / "litellm/bin/litellm").exists():
        (scratch / "litellm.yaml").write_text(
            LITELLM.format(upstream=upstream, secret=UPSTREAM_SECRET, key=GATEWAY_SECRET)
        )
        command = [str(folder / "litellm/bin/litellm"), "--host", "127.0.0.1", "--port", str(ports[2])]
        command += ["--num_workers", "1", "--config", str(scratch / "litellm.yaml")]
        env = {
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_LOG": "ERROR",
            "LITELLM_TELEMETRY": "False",
            "NO_DOCS": "True",
        }
        found.append(Peer("litellm", command, f"http://127.0.0.1:{ports[2]}{path}", bearer, env))
    return found


def environment(extra: dict[str, str]) -> dict[str, str]:
    """Return the environment of a peer: PYTHONDONTWRITEBYTECODE would make LiteLLM compile on every request."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "NO_PROXY": "*", **extra}
