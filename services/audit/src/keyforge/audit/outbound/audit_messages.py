"""What messages of KF_AUDIT are made of: whose records go together, and how many."""

from keyforge.contracts import sealed, subjects
from keyforge.contracts.ids import TenantId


def subject_of(chain: str) -> str:
    """Return the subject of the records of a tenant's chain, or of a key's."""
    kind, tenant = chain.split("/")[:2]
    return (subjects.audit_keys if kind == "key" else subjects.audit_tenant)(TenantId(tenant))


def batches(events: list[bytes]) -> list[list[bytes]]:
    """Divide encoded records into messages, in order."""
    found: list[list[bytes]] = []
    size = sealed.BATCH_BYTES_MAX
    for event in events:
        if size + len(event) > sealed.BATCH_BYTES_MAX:
            found.append([])
            size = 0
        found[-1].append(event)
        size += len(event) + 1
    return found
