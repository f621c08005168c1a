"""The bench's heads are as long as it says, from either upstream, and what it asks in turn is every key."""

import asyncio
import re
import sys
from pathlib import Path

import httpx

from keyforge.testkit.nats_server import die_with_parent
from keyforge.testkit.ports import free_ports
from tests.bench import bodies, gateway_bench, plain_stub, report
from tests.bench.measure import Load, Measured
from tests.bench.stack import ROOT

OF_WRK = {"Host", "Content-Type", "Content-Length"}
OF_EVERY_SERVER = {"Server", "Date", "Content-Type", "Content-Length", "Connection"}


def test_an_agent_s_head_has_20_lines() -> None:
    (line,) = gateway_bench.long_heads(["vk_fixture"])
    names = [pair.split(": ")[0] for pair in line.split("\t")]
    assert len(OF_WRK | set(names)) == len(OF_WRK) + len(names) == 20
    assert "Authorization: Bearer vk_fixture" in line


def test_a_provider_s_head_has_25_lines(tmp_path: Path) -> None:
    head, _, body = plain_stub.answer(long_heads=True).partition(b"\r\n\r\n")
    assert len(head.split(b"\r\n")) == 1 + 25
    assert f"Content-Length: {len(body)}".encode() in head
    _, conf = bodies.write(tmp_path, 1)
    (long,) = re.findall(r"location /long/ .*", conf.read_text())
    assert long.count("add_header ") == 25 - len(OF_EVERY_SERVER)


async def test_the_stub_answers_as_nginx_does() -> None:
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "tests.bench.plain_stub", str(port)]
    stub = await asyncio.create_subprocess_exec(*command, cwd=ROOT, preexec_fn=die_with_parent)
    try:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", transport=httpx.AsyncHTTPTransport(retries=8)
        ) as client:
            for path, lines in (("/v1/chat/completions", 5), ("/long/v1/chat/completions", 25)) * 2:
                answer = await client.post(path, json=bodies.REQUEST)
                assert answer.json() == bodies.ANSWER
                assert len(answer.headers.multi_items()) == lines
    finally:
        stub.terminate()
        await stub.wait()


def test_the_fleet_has_a_table_beside_the_other() -> None:
    cost = dict.fromkeys((*report.PARTS_US, "upstream", "wrk"), 1.0)
    row = gateway_bench.plain(Measured(cost, Load(1, 1.0, 1.0, 1.0, 0), 1, [0.5, 0.5], 2.0, 200, 2.9))
    found = {
        "upstream": "nginx",
        "fleet": {"keys": 1000, "loads": {"c64": row}},
        "failed": {},
        "calibration": [2.9, 2.9],
        "calibration_end": [2.9, 2.9],
    }
    text = report.report(found)
    assert "1000 keys of 100 tenants, 20 header lines in and 25 back" in text
    assert "the upstream was nginx" in text
