"""The AsyncAPI document of KF_AUDIT, generated from the contracts.

`python -m keyforge.audit.asyncapi > docs/spec/asyncapi.json` writes it. FastStream could write one, but takes schemas
from pydantic, which does not know msgspec types.
"""

import json
import sys
from typing import Any, Final

import msgspec

from keyforge.contracts import sealed, subjects
from keyforge.contracts.events import EVENTS
from keyforge.contracts.ids import KeyId, TenantId
from keyforge.contracts.sealed import RecordSealed

VERSION: Final = "1.0.0"
DESCRIPTION: Final = (
    "The sealed records of a virtual key, published after they are stored. One message holds records of one key: a "
    "CloudEvents 1.0 batch, in order of seq, delivered at least once. Keep (chain, seq) and skip what you have. "
    "docs/spec/audit-format.md defines how header, hash and body are verified."
)
_SCHEMAS: Final = "#/components/schemas/"


def document() -> dict[str, Any]:
    """Return the document."""
    events = [event for name, event in EVENTS.items() if ".request." in name or ".key." in name]
    _, schemas = msgspec.json.schema_components([RecordSealed, *events], ref_template=_SCHEMAS + "{name}")
    schemas["SealedRecord"]["properties"]["body"] = _body(
        [event.TYPE for event in events], [event.__name__ for event in events]
    )
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "KeyForge sealed records", "version": VERSION, "description": DESCRIPTION},
        "defaultContentType": "application/cloudevents-batch+json",
        "channels": {
            "sealedRecords": {
                "address": subjects.audit_subject(TenantId("{tenant}"), KeyId("{key}")),
                "description": f"Stream {subjects.AUDIT_STREAM}; NATS user `tail` may read it.",
                "parameters": {
                    "tenant": {"description": "The tenant that the key belongs to."},
                    "key": {"description": "The id of the virtual key."},
                },
                "messages": {"batch": {"$ref": "#/components/messages/batch"}},
            }
        },
        "operations": {
            "publishSealedRecords": {
                "action": "send",
                "channel": {"$ref": "#/channels/sealedRecords"},
                "messages": [{"$ref": "#/channels/sealedRecords/messages/batch"}],
            }
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
