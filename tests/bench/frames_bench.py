"""What frames take in the log and what their compression costs: `python -m tests.bench.frames_bench`.

A request is an admission and a completion, of one of 32 keys of as many tenants, made by the dictionary's generator
from seeds that it was not trained on. Compare only runs whose calibration is the same at both ends.
"""

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

from deploy.make_frame_dictionary import SAMPLES, SEED, Traffic

from keyforge.audit.core.fold import Fold
from keyforge.audit.core.sealed import Sealed
from keyforge.budget.core.fold import fold
from keyforge.budget.core.ledger import Ledger
from keyforge.contracts import frame, subjects
from keyforge.contracts.compression import compress
from keyforge.contracts.events import RequestAdmitted
from keyforge.contracts.frame import Recorded
from keyforge.contracts.ids import EdgeId
from tests.bench.measure import calibrate, table
from tests.unit.audit_facts import MASTER, nanoseconds

EDGE = EdgeId("edge-0")
KEYS = 32
REQUESTS = 2560
NOW = datetime(2029, 1, 1, tzinfo=UTC)
Sent = tuple[str, bytes]
EVENTS = (1, 4, 16, 64)
ROUNDS = 5
CTL, ADM, USE = subjects.ctl(0), subjects.adm(0), subjects.use(0, EDGE)


def best_us(run: Callable[[], object], count: int) -> float:
    """Return the CPU of one of `count` operations that `run` does, the best of some rounds."""
    found = []
    for _ in range(ROUNDS):
        begun_s = time.process_time()
        run()
        found.append(time.process_time() - begun_s)
    return min(found) / count * 1e6


def messages(admitted: list[Recorded], completed: list[Recorded], events: int) -> list[Sent]:
    """The JSON of frames of so many events, with their subjects: admissions and completions in turns."""
    return [
        (subject, frame.encode(recorded[first : first + events]))
        for first in range(0, REQUESTS, events)
        for subject, recorded in ((ADM, admitted), (USE, completed))
    ]


def decode(frames: list[Sent]) -> None:
    for subject, data in frames:
        frame.decode(data, subject)


def fold_budget(begun: Sent, frames: list[Sent]) -> None:
    ledger = Ledger(0)
    for sequence, (subject, data) in enumerate((begun, *frames), 1):
        rejected = fold(ledger, sequence, subject, NOW, frame.decode(data, subject))
        assert rejected == []
    assert not ledger.open


def fold_audit(begun: Sent, frames: list[Sent]) -> None:
    folding, out = Fold(0, MASTER), Sealed()
    for sequence, (subject, data) in enumerate((begun, *frames), 1):
        folding.fold(sequence, subject, nanoseconds(NOW), data, out)
    assert not out.rejected


def row(begun: Sent, admitted: list[Recorded], completed: list[Recorded], events: int) -> list[object]:
    plain = messages(admitted, completed, events)
    packed = [(subject, compress(data)) for subject, data in plain]
    costs = [best_us(lambda: [compress(data) for _, data in plain], REQUESTS)]
    for read in (decode, partial(fold_budget, begun), partial(fold_audit, begun)):
        costs += [best_us(partial(read, frames), 2 * REQUESTS) for frames in (plain, packed)]
    sizes = [sum(len(data) for _, data in frames) / REQUESTS for frames in (plain, packed)]
    return [events, *(f"{size:.0f}" for size in sizes), f"{sizes[0] / sizes[1]:.1f}", *(f"{us:.1f}" for us in costs)]


def main() -> None:
    keys = [Traffic(SEED + SAMPLES + number) for number in range(KEYS)]
    for key in keys:
        key.edge, key.partition, key.epoch = EDGE, 0, 1
    facts = [keys[0].fenced(), *(event for key in keys for event in (key.tenant_created(), key.key_created()))]
    begun = CTL, frame.encode(facts)
    admitted = [keys[number % KEYS].admitted() for number in range(REQUESTS)]
    completed = [
        keys[number % KEYS].completed(one.event.request_id)
        for number, one in enumerate(admitted)
        if isinstance(one.event, RequestAdmitted)
    ]
    head = ["events a frame", "JSON, B", "stored, B", "ratio", "compress", "decode JSON", "stored"]
    head += ["budget's fold, JSON", "stored", "audit's fold, JSON", "stored"]
    title = "Frames: bytes and us of compression a request; us of decoding and folding (which decodes) an event"
    sys.stdout.write(f"calibration {calibrate()} us\n")
    sys.stdout.write(table(title, head, [row(begun, admitted, completed, events) for events in EVENTS]))
    sys.stdout.write(f"calibration {calibrate()} us\n")


if __name__ == "__main__":
    main()
