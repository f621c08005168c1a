"""The only places where a house rule does not hold, each with its reason; an entry that is not needed is an error."""

LONG_FILES: dict[str, str] = {}
"""Path → why this file may exceed `FILE_LINES_MAX`."""

LONG_FUNCTIONS: dict[str, str] = {}
"""`path::function` → why it may exceed `FUNCTION_LINES_MAX`."""

CLOCKS: dict[str, str] = {
    "libs/runtime/src/keyforge/runtime/clock.py": "the one clock; everybody else is given it",
    "libs/eventlog/src/keyforge/eventlog/memory.py": "the twin plays the broker, which has a clock of its own",
    "libs/simulator/src/keyforge/simulator/server.py": "it plays a provider, which has a clock of its own",
}
"""Path → why this file may ask the machine for the time of day."""

SUBJECTS: dict[str, str] = {
    "libs/contracts/src/keyforge/contracts/subjects.py": "the one place where names of the log are spelled",
    "libs/contracts/src/keyforge/contracts/permissions.py": "what each user may publish and subscribe to",
}
"""Path → why this file may spell subjects, streams and buckets (all of eventlog may)."""

UNUSED: dict[str, str] = {
    "eventlog::MemoryLog": "the twin: tests run services on it",
    "eventlog::of_partitions": "of the twin",
    "eventlog::fail_next": "of the twin",
    "eventlog::deliver_late": "of the twin",
    "eventlog::shrink": "of the twin",
    "eventlog::trim": "of the twin",
    "runtime::settings_customise_sources": "pydantic-settings calls it",
    "runtime::SetClock": "the twin of the clock",
}
"""`member::name` → why it stays though nothing in the product uses it."""

SHARED_NAMES: dict[str, str] = {
    "Connection": "one connection of a client's or a server's: as the NATS client, the edge and the simulator know it",
    "Request": "a request that holds money: as budget knows it, and the reckoning that checks it",
    "Account": "what is settled and reserved: as budget knows it, and the reckoning that checks it",
    "Readiness": "what must hold before a service is ready",
    "Service": "what each service's app.py wires",
    "Metrics": "what each service counts",
    "Credential": "what we show a provider: as keys knows it, and the seeding that lists them",
    "Key": "an agent's key: as keys, budget and the command line know it",
    "Tenant": "who pays: as keys and budget know it",
    "Provider": "whom we call: as keys, the simulator and the command line know it",
    "Price": "a model's price: as keys and the command line know it",
}
"""A class's name → the one thing that all classes of this name are."""
