"""Variables that no program may start with: names of none of ours, and secrets that are empty or no secrets."""

from typing import Final, NamedTuple


class Fault(NamedTuple):
    """What is changed of an environment that a program starts with, and what the line names."""

    named: str
    changed: dict[str, str]


CANARY: Final = "canary"
EMPTY: Final = "<set, and empty>"
SEEDED: Final = "<a home whose seeded.json is damaged>"
"""Values that the fixture replaces."""
UNKNOWN: Final = Fault(
    "KEYFORGE_LOGLEVEL: no setting has this name, the nearest is KEYFORGE_LOG_LEVEL", {"KEYFORGE_LOGLEVEL": CANARY}
)


BAD_USER: Final = Fault("KEYFORGE_NATS_USER: must be printable ASCII", {"KEYFORGE_NATS_USER": "made "})


LOG: Final = "KEYFORGE_NATS_URL: must be nats://host:port or tls://host:port"
MONITOR: Final = "KEYFORGE_NATS_MONITOR_URL: must be http(s)://host:port"
ADDRESSES: Final = {
    "user in the address of the log": Fault(
        "KEYFORGE_NATS_URL: must not contain a user or a password", {"KEYFORGE_NATS_URL": f"nats://u:{CANARY}@h:4222"}
    ),
    "line end in the address of the log": Fault(LOG, {"KEYFORGE_NATS_URL": "a\nb"}),
    "empty label in the address of the log": Fault(LOG, {"KEYFORGE_NATS_URL": "nats://h,a..b"}),
    "too long a label in the address of the log": Fault(LOG, {"KEYFORGE_NATS_URL": f"nats://{'a' * 64}:4222"}),
    "line end in the address of a monitor": Fault(MONITOR, {"KEYFORGE_NATS_MONITOR_URL": "http://a\nb"}),
    "empty label in the address of a monitor": Fault(MONITOR, {"KEYFORGE_NATS_MONITOR_URL": "http://a..b:8222"}),
}
"""Addresses that can never be connected to, or not as they are meant: of a service, and, but for a colon, of
`declare`."""


def empty(variable: str) -> Fault:
    """A secret that is set, and empty."""
    return Fault(f"{variable}: must not be empty", {variable: EMPTY})


OF_EVERY_SERVICE: Final = {
    "unknown variable": UNKNOWN,
    "empty secret": empty("KEYFORGE_KEY_SECRET"),
    "empty password": empty("KEYFORGE_NATS_PASSWORD"),
    "blank password": Fault("KEYFORGE_NATS_PASSWORD: must not be empty", {"KEYFORGE_NATS_PASSWORD": " \n"}),
    "user with a blank": BAD_USER,
    "port 0 of NATS": Fault("KEYFORGE_NATS_URL: must be nats://", {"KEYFORGE_NATS_URL": "nats://h:0"}),
    "port 0 of one server": Fault("KEYFORGE_NATS_URL: must be nats://", {"KEYFORGE_NATS_URL": "nats://h,tls://h:0"}),
    **ADDRESSES,
    "host with too long a label": Fault("KEYFORGE_HOST: cannot listen on port", {"KEYFORGE_HOST": "a" * 64}),
    "not UTF-8": Fault("KEYFORGE_NATS_PASSWORD must be UTF-8", {"KEYFORGE_NATS_PASSWORD": f"{CANARY}\udcff"}),
    "one server named twice": Fault(
        "KEYFORGE_NATS_MONITOR_URL names http://127.0.0.1:1 more than once",
        {"KEYFORGE_NATS_MONITOR_URL": "http://127.0.0.1:1,http://127.0.0.1:1/,http://127.0.0.1:1"},
    ),
    "no partitions": Fault("KEYFORGE_PARTITIONS: Input should be greater", {"KEYFORGE_PARTITIONS": "0"}),
    "log without KF_META, on Kubernetes": Fault(
        "KF_META does not say",
        {
            "KEYFORGE_NATS_USER": "unsaid",
            "KEYFORGE_SERVICE_HOST": "10.0.0.1",
            "KEYFORGE_EDGE_SERVICE_PORT_HTTP": "8080",
            "KEYFORGE_PORT_8080_TCP_ADDR": "10.0.0.1",
            "KEYFORGE_EDGE_PORT": "tcp://10.0.0.1:8080",
            "keyforge_foo": CANARY,
        },
    ),
}
OF_ONE: Final = {
    "edge": {
        "empty private key": empty("KEYFORGE_EDGE_PRIVATE_KEY"),
        "empty commitment secret": empty("KEYFORGE_COMMITMENT_SECRET"),
        "page for an origin": Fault(
            "KEYFORGE_CORS_ORIGINS: must be `*`, or origins",
            {"KEYFORGE_CORS_ORIGINS": f"https://{CANARY}.example/page"},
        ),
        "all origins and one": Fault(
            "KEYFORGE_CORS_ORIGINS: must be `*`, or origins", {"KEYFORGE_CORS_ORIGINS": f"*,https://{CANARY}.example"}
        ),
    },
    "keys": {
        "empty public key": Fault("KEYFORGE_EDGE_PUBLIC_KEY: a key must be", {"KEYFORGE_EDGE_PUBLIC_KEY": EMPTY}),
        "empty commitment secret": empty("KEYFORGE_COMMITMENT_SECRET"),
        "empty token": empty("KEYFORGE_BOOTSTRAP_ADMIN_TOKEN"),
    },
    "audit": {
        "empty master key": empty("KEYFORGE_AUDIT_MASTER_KEY"),
        "empty commitment secret": empty("KEYFORGE_COMMITMENT_SECRET"),
        "empty password of ClickHouse": empty("KEYFORGE_CLICKHOUSE_PASSWORD"),
        "blank password of ClickHouse": Fault(
            "KEYFORGE_CLICKHOUSE_PASSWORD: must not be empty",
            {"KEYFORGE_CLICKHOUSE_PASSWORD": " ", "KEYFORGE_CLICKHOUSE_HTTP_PORT": "1"},
        ),
    },
    "up": {
        "unknown variable": UNKNOWN,
        "provider's variable": Fault("OPENAI_API_KEY must be", {"OPENAI_API_KEY": f"{CANARY} {CANARY}"}),
        "seeded credentials": Fault("seeded.json must hold the credentials", {"KEYFORGE_HOME": SEEDED}),
    },
    "declare": {
        "unknown variable": UNKNOWN,
        "empty secret": Fault("KEYFORGE_KEY_SECRET must not be empty", {"KEYFORGE_KEY_SECRET": EMPTY}),
        "empty password": Fault("KEYFORGE_NATS_PASSWORD must not be empty", {"KEYFORGE_NATS_PASSWORD": EMPTY}),
        "short secret": Fault("KEYFORGE_KEY_SECRET must be at least 32", {"KEYFORGE_KEY_SECRET": "0b" * 31}),
        "fingerprint": Fault("FINGERPRINT must be 16 hex digits", {"KEYFORGE_KEY_SECRET_FINGERPRINT": CANARY}),
        "other secret": Fault("KEYFORGE_KEY_SECRET has fingerprint", {"KEYFORGE_KEY_SECRET_FINGERPRINT": "ab" * 8}),
        "newer format": Fault("the log has format 2", {"KEYFORGE_NATS_USER": "newer"}),
        "port 0 of NATS": Fault("KEYFORGE_NATS_URL must be nats://", {"KEYFORGE_NATS_URL": "nats://h:0"}),
        **{name: Fault(fault.named.replace(": ", " ", 1), fault.changed) for name, fault in ADDRESSES.items()},
        "password in an address of a monitor": Fault(
            "KEYFORGE_NATS_MONITOR_URL: http://127.0.0.1:1/varz cannot be read",
            {"KEYFORGE_NATS_MONITOR_URL": f"http://u:{CANARY}@{CANARY}@127.0.0.1:1"},
        ),
        "user with a blank": Fault(BAD_USER.named.replace(":", ""), BAD_USER.changed),
    },
}
