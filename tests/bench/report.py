"""What the bench found, as tables: figures, then the gates with by how much each is held or missed."""

from typing import Any

from tests.bench.measure import table

PARTS_US = {"edge": 110, "budget": 35, "nats": 35, "audit": 80}
PEER_RATIOS = {"ferrogw": 0.6, "portkey": 1 / 8, "litellm": 1 / 75}
RESERVE_RATIO = 2.2
PACE_US = 2.85
"""The calibration loop on this kind of machine when nobody else slows it: what a figure would be there is said too."""
ADDED_P50_MS = 2.0
EDGE_IDLE_MB = 120
KB_PER_STREAM = 40
FIRST_BYTE_MS = 5.0

Found = dict[str, Any]

_LOAD = ("req/s", "p50 ms", "p99 ms", "bad", "core 0 busy", "core 1 busy", "pace us")


def report(found: Found) -> str:
    """Return all tables of the parts that ran."""
    text = ""
    if "keyforge" in found:
        text += _json(found)
    if "fleet" in found:
        title = "KeyForge, JSON: {keys} keys of 100 tenants, 20 header lines in and 25 back, unless said otherwise"
        text += _loads(title.format(keys=found["fleet"]["keys"]), found["fleet"]["loads"])
    if "peers" in found:
        rows = [
            [name, one["us"], *(one["cpu_us"][part] for part in ("upstream", "wrk")), *_load(one)]
            for name, one in found["peers"].items()
        ]
        title = "Peers: CPU us per request at 64 connections, a run of each in turn"
        text += table(title, ["gateway", "us", "upstream", "wrk", *_LOAD], rows)
    if "streams" in found:
        text += _streams(found["streams"])
    if "r3" in found:
        text += _r3(found["r3"])
    text += table("Gates", ["gate", "measured", "bound", "verdict", f"at a pace of {PACE_US}"], gates(found))
    for part, why in found["failed"].items():
        text += f"NOT MEASURED: {part}: {why}\n"
    paces = " at the start, ".join(str(found[name]) for name in ("calibration", "calibration_end"))
    text += f"the upstream was {found['upstream']}\n"
    return f"{text}calibration (us, core 0 and 1): {paces} at the end\n"


def _json(found: Found) -> str:
    title = "KeyForge, JSON: CPU us per request; 8 tenants of 4 keys each, unless said otherwise"
    rows = {**found["keyforge"], "upstream alone c1": found["direct"]}
    return _loads(title, rows) + f"  edge: {found['edge_idle_mb']} MB idle\n"


def _loads(title: str, rows: dict[str, Found]) -> str:
    head = ["load", *PARTS_US, "upstream", "wrk", "req/frame", "log B/req", *_LOAD]
    return table(
        title,
        head,
        [
            [
                name,
                *(one["cpu_us"].get(part, "") for part in (*PARTS_US, "upstream", "wrk")),
                one["per_frame"] or "",
                one["log_bytes"] or "",
                *_load(one),
            ]
            for name, one in rows.items()
        ],
    )


def _load(one: Found) -> list[object]:
    return [one["per_s"], one["p50_ms"], one["p99_ms"], one["bad"], *one["busy"], one["pace"]]


def _streams(found: Found) -> str:
    head = ["open streams", "asked", "open", "KB each", "RSS before MB", "with them", "after", "ended well"]
    names = ("asked", "open", "kb_per_stream", "rss_before_mb", "rss_open_mb", "rss_after_mb", "ended_well")
    rows = [
        [title, *(found[part][name] for name in names)]
        for title, part in (("plain upstream", "open"), ("TLS upstream", "open_tls"))
        if part in found
    ]
    text = table("Streams: memory of the edge", head, rows)
    for part in ("open", "open_tls"):
        text += "".join(f"  refused: {head!r}\n" for head in found.get(part, {}).get("refused", ()))
    first = [[name, one["p50_ms"], one["p99_ms"], one["samples"], one["bad"]] for name, one in found["first"].items()]
    first[0][0], first[1][0] = "upstream alone", "through the edge"
    text += table(
        "Streams: first chunk, from its writing upstream to its coming", ["way", "p50 ms", "p99 ms", "n", "bad"], first
    )
    cpu = found["cpu"]
    head = ["load", *PARTS_US, "edge per chunk", "streams", "bad", "pieces seen", "core 0 busy", "core 1 busy"]
    row = ["c32", *(cpu["us_per_stream"][part] for part in PARTS_US), cpu["edge_us_per_chunk"], cpu["streams"]]
    row += [cpu["bad"], f"{cpu['pieces_seen_each']} of {cpu['chunks_each']}", *cpu["busy"]]
    return text + table("Streams: CPU us per stream of 100 chunks", head, [row])


def _r3(found: Found) -> str:
    rows = [
        [title, *_load(found[part])] for title, part in (("three replicas c1", "c1"), ("upstream alone c1", "direct"))
    ]
    text = table("R3: three servers on loopback that sync every message, one connection", ["load", *_LOAD], rows)
    added = found["c1"]["p50_ms"] - found["direct"]["p50_ms"]
    costs = ", ".join(f"{name} {cost}" for name, cost in found["c1"]["cpu_us"].items())
    return f"{text}  added p50: {added:.2f} ms (no gate); CPU us per request: {costs}\n"


SPREADS = {"one tenant": "c64, one tenant", "8 tenants": "c64"}
"""Peers are measured with one key, so one tenant is the like load; eight spread it over all partitions, in smaller
frames."""


def gates(found: Found) -> list[list[object]]:
    """Return a row per gate of what was measured: its name, the figure, the bound, held or missed by how much."""
    rows: list[tuple[str, float, float]] = []
    at_pace: dict[str, str] = {}
    if "keyforge" in found:
        off = found["keyforge"]["no reserving"]["cpu_us"]["edge"]
        for spread, load in SPREADS.items():
            full, pace = found["keyforge"][load]["cpu_us"], found["keyforge"][load]["pace"]
            for part, bound in PARTS_US.items():
                name = f"{part} us, {spread}"
                rows.append((name, full[part], bound))
                at_pace[name] = f"{full[part] * PACE_US / pace:.0f}"
            rows.append((f"edge / edge without reserving, {spread}", full["edge"] / off, RESERVE_RATIO))
        added = found["keyforge"]["c1"]["p50_ms"] - found["direct"]["p50_ms"]
        rows.append(("added p50 at one connection, ms", added, ADDED_P50_MS))
        rows.append(("edge idle MB", found["edge_idle_mb"], EDGE_IDLE_MB))
    rows += [(name, ratio, PEER_RATIOS[name.rpartition(" ")[2]]) for name, ratio in found.get("ratios", {}).items()]
    if "streams" in found:
        streams = found["streams"]
        held = streams["open"]
        all_open = held["open"] == held["asked"]
        name = f"KB per open stream, {held['open']} of {held['asked']} open"
        rows.append((name, held["kb_per_stream"] if all_open else float("inf"), KB_PER_STREAM))
        rows.append(("first byte after the upstream's, p50 ms", streams["first"]["edge"]["p50_ms"], FIRST_BYTE_MS))
        rows.append(("first byte after the upstream's, p99 ms", streams["first"]["edge"]["p99_ms"], FIRST_BYTE_MS))
    return [
        [
            name,
            f"{value:.3g}",
            f"{bound:.3g}",
            "held" if value <= bound else f"missed, {value / bound:.2f} x",
            at_pace.get(name, ""),
        ]
        for name, value, bound in rows
    ]
