"""The AsyncAPI document of KF_AUDIT, generated from the contracts.

`python -m keyforge.audit.asyncapi > docs/spec/asyncapi.json` writes it. FastStream could write one, but takes schemas
from pydantic, which does not know msgspec types.
"""

import json
import sys
from typing import Any, Final

import msgspec

from keyforge.contracts import sealed, subjects
from keyforge.contracts.events import EVENTS, TenantPlaced
from keyforge.contracts.ids import TenantId
from keyforge.contracts.sealed import RecordSealed

VERSION: Final = "2.0.0"
DESCRIPTION: Final = (
    "Sealed records, published after they are stored. One message holds the records that were stored together: of all "
    "keys of one tenant, or of the tenant's own chain. It is a CloudEvents 1.0 batch of at most "
    f"{sealed.BATCH_BYTES_MAX // 1024} KiB unless one record is larger, in the order of the log, so each chain in "
    "order of seq; delivered at least once. Keep (chain, seq) and skip what you have. docs/subscribe.md shows clients, "
    "docs/spec/audit-format.md defines how header, hash and body are verified."
)
CHANNELS: Final = {
    "recordsOfKeys": (subjects.audit_keys(TenantId("{tenant}")), "Records of the chains of a tenant's keys."),
    "recordsOfTenant": (
        subjects.audit_tenant(TenantId("{tenant}")),
        "Records of a tenant's own chain: what operators did to it and its keys.",
    ),
}
OF_TENANTS: Final = frozenset(("request", "key", "tenant", "model"))
"""What events of tenants are about: the second part of their types."""
OF_PLATFORM: Final = frozenset((TenantPlaced.TYPE,))
"""Events of the same names that are on the platform's chain alone."""
_SCHEMAS: Final = "#/components/schemas/"


def document() -> dict[str, Any]:
    """Return the document."""
    events = [event for name, event in EVENTS.items() if name.split(".")[1] in OF_TENANTS and name not in OF_PLATFORM]
    _, schemas = msgspec.json.schema_components([RecordSealed, *events], ref_template=_SCHEMAS + "{name}")
    schemas["SealedRecord"]["properties"]["body"] = _body(
        [event.TYPE for event in events], [event.__name__ for event in events]
    )
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "KeyForge sealed records", "version": VERSION, "description": DESCRIPTION},
        "defaultContentType": "application/cloudevents-batch+json",
        "channels": {name: _channel(address, what) for name, (address, what) in CHANNELS.items()},
        "operations": {
            f"publish{name[0].upper()}{name[1:]}": {
                "action": "send",
                "channel": {"$ref": f"#/channels/{name}"},
                "messages": [{"$ref": f"#/channels/{name}/messages/batch"}],
            }
            for name in CHANNELS
        },
        "components": {
            "messages": {
                "batch": {
                    "name": sealed.SEALED_TYPE,
                    "contentType": "application/cloudevents-batch+json",
                    "payload": {"type": "array", "minItems": 1, "items": {"$ref": f"{_SCHEMAS}RecordSealed"}},
                }
            },
            "schemas": schemas,
        },
    }


def _channel(address: str, what: str) -> dict[str, Any]:
    return {
        "address": address,
        "description": f"{what} Stream {subjects.AUDIT_STREAM}; NATS user `tail` may read it, of every tenant.",
        "parameters": {"tenant": {"description": "The tenant."}},
        "messages": {"batch": {"$ref": "#/components/messages/batch"}},
    }


def _body(types: list[str], names: list[str]) -> dict[str, Any]:
    """Return the schema of a record's body: the event in canonical JSON, or null if it is too large to be sent."""
    text = {"type": "string"}
    return {
        "type": ["object", "null"],
        "required": ["data", "id", "source", "specversion", "subject", "time", "type"],
        "properties": {
            "data": {"anyOf": [{"$ref": _SCHEMAS + name} for name in names]},
            "id": text,
            "source": text,
            "specversion": {"const": "1.0"},
            "subject": text,
            "time": {"type": "string", "format": "date-time"},
            "type": {"enum": types},
        },
    }


def to_json() -> str:
    """Return the text of docs/spec/asyncapi.json."""
    return json.dumps(document(), indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.stdout.write(to_json())
