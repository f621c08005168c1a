"""Streams through the edge with everything on: memory of open ones, the way of the first byte, CPU per chunk."""

import asyncio
import datetime as dt
import ipaddress
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.bench.bodies import STREAM_MODELS
from tests.bench.measure import (
    GATEWAY_CORE,
    LOAD_CORE,
    busy_cores,
    cpu_us,
    pin,
    rss_mb,
    settle,
)
from tests.bench.stack import Provider, Stack, another_edge, running
from tests.bench.stream_client import Reader, Streamed, Target, ends, in_turn, open_streams
from tests.bench.stub import BURST_CHUNKS

OPEN_STREAMS = 1000
WARM_STREAMS = 16
HELD_S = 5.0
"""Longer than two chunks of a held stream: what a stream costs once it is under way."""
FIRST_CONNECTIONS = 4
FIRST_SAMPLES = 200
BURST_CONNECTIONS = 32
BURST_EACH = 6
PATH = "/v1/chat/completions"


@contextmanager
def on_load_core() -> Iterator[None]:
    """Keep this process on the core of the load for the while."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {int(LOAD_CORE)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def stub(*arguments: str) -> Iterator[int]:
    """Run the streaming upstream; yield its port."""
    command = ["taskset", "-c", LOAD_CORE, sys.executable, "-m", "tests.bench.stub", *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin
    assert process.stdout
    try:
        yield int(process.stdout.readline())
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait(10)


def certificate(folder: Path) -> tuple[Path, Path]:
    """Make an authority and a certificate of 127.0.0.1; return its file, and one of certificate and key."""
    start = dt.datetime.fromtimestamp(0, dt.UTC)
    end = start.replace(year=2049)

    def signed(name: str, key: Any, issuer: x509.Name | None, issuer_key: Any, *, ca: bool) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer or subject)
        made = made.public_key(key.public_key()).serial_number(x509.random_serial_number())
        made = made.not_valid_before(start).not_valid_after(end)
        made = made.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        if not ca:
            names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
            made = made.add_extension(names, critical=False)
        return made.sign(issuer_key, hashes.SHA256())

    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = signed("KeyForge bench authority", root_key, None, root_key, ca=True)
    leaf = signed("127.0.0.1", key, root.subject, root_key, ca=False)
    authority, served = folder / "authority.pem", folder / "served.pem"
    authority.write_bytes(root.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    served.write_bytes(leaf.public_bytes(serialization.Encoding.PEM) + private)
    return authority, served


def streams(folder: Path) -> dict[str, Any]:
    """Measure all of it on a stack of its own, whose edge has done nothing else before its memory is read."""
    authority, served = certificate(folder)
    with stub() as plain, stub("--tls", str(served), str(served)) as tls:
        providers = [
            Provider("stub", f"http://127.0.0.1:{plain}/v1", STREAM_MODELS),
            Provider("stub-tls", f"https://127.0.0.1:{tls}/v1", STREAM_MODELS),
        ]
        with running(folder / "streams", providers) as stack:
            for name, pid in stack.pids.items():
                pin(pid, GATEWAY_CORE if name == "edge" else LOAD_CORE)
            edge, url = stack.pids["edge"], f"{stack.ready['edge']}{PATH}"
            with on_load_core():
                settle(stack.pids.values())
                held = Target(url, "stub/hold", stack.keys)
                found = {"open": asyncio.run(memory(edge, held, f"http://127.0.0.1:{plain}"))}
                found["first"] = asyncio.run(first_byte(url, plain, stack))
                found["cpu"] = burst(url, stack)
            with another_edge(stack, folder, SSL_CERT_FILE=str(authority)) as (pid, other), on_load_core():
                held = Target(f"{other}{PATH}", "stub-tls/hold", stack.keys)
                found["open_tls"] = asyncio.run(memory(pid, held, f"https://127.0.0.1:{tls}", authority))
    return found


async def memory(pid: int, held: Target, upstream: str, authority: Path | None = None) -> dict[str, Any]:
    """Open many streams; return what each costs the edge in memory, and how many were really open."""
    await _release(upstream, await open_streams(held, WARM_STREAMS), authority)
    await asyncio.sleep(1)
    before = rss_mb(pid)
    readers = await open_streams(held, OPEN_STREAMS)
    await asyncio.sleep(HELD_S)
    count = sum(reader.open for reader in readers)
    during = rss_mb(pid)
    good = await _release(upstream, readers, authority)
    await asyncio.sleep(1)
    return {
        "asked": OPEN_STREAMS,
        "open": count,
        "ended_well": good,
        "refused": sorted({reader.head[:200].decode("latin-1") for reader in readers if not reader.good})[:3],
        "rss_before_mb": round(before, 1),
        "rss_open_mb": round(during, 1),
        "rss_after_mb": round(rss_mb(pid), 1),
        "kb_per_stream": round((during - before) * 1024 / max(1, count), 1),
    }


async def _release(upstream: str, readers: list[Reader], authority: Path | None) -> int:
    """Have the upstream end the streams that it holds; return how many ended as they should."""
    async with httpx.AsyncClient(verify=str(authority) if authority else True) as client:
        (await client.post(f"{upstream}/release")).raise_for_status()
    return await ends(readers)


async def first_byte(url: str, direct_port: int, stack: Stack) -> dict[str, Any]:
    """Return from the upstream's writing of the first chunk to its coming, through the edge and without it."""
    each = FIRST_SAMPLES // FIRST_CONNECTIONS
    targets = {
        "direct": Target(f"http://127.0.0.1:{direct_port}{PATH}", "first", ["none"]),
        "edge": Target(url, "stub/first", stack.keys),
    }
    found: dict[str, Any] = {}
    for name, target in targets.items():
        await in_turn(target, connections=FIRST_CONNECTIONS, each=2)
        read = await in_turn(target, connections=FIRST_CONNECTIONS, each=each)
        found[name] = {
            "samples": len(read.delays_ms),
            "bad": read.bad,
            "p50_ms": round(statistics.median(read.delays_ms), 2),
            "p99_ms": round(statistics.quantiles(read.delays_ms, n=100)[98], 2),
        }
    return found


def burst(url: str, stack: Stack) -> dict[str, Any]:
    """Return what a stream of 100 chunks costs each process, at 32 open at a time."""
    target = Target(url, "stub/burst", stack.keys)
    asyncio.run(in_turn(target, connections=BURST_CONNECTIONS, each=1))
    pids = {name: stack.pids[name] for name in ("edge", "budget", "nats", "audit")}
    settle(pids.values())
    before = {name: cpu_us(pid) for name, pid in pids.items()}
    with busy_cores() as busy:
        read: Streamed = asyncio.run(in_turn(target, connections=BURST_CONNECTIONS, each=BURST_EACH))
    settle(pids.values())
    count = max(1, read.good)
    costs = {name: round((cpu_us(pid) - before[name]) / count, 1) for name, pid in pids.items()}
    return {
        "streams": read.good,
        "bad": read.bad,
        "chunks_each": BURST_CHUNKS,
        "pieces_seen_each": round(read.pieces / count, 1),
        "us_per_stream": costs,
        "edge_us_per_chunk": round(costs["edge"] / BURST_CHUNKS, 1),
        "busy": busy,
    }
