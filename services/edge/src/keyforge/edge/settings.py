"""The settings of the edge: KEYFORGE_* variables beyond those that every service has."""

from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr

from keyforge.contracts.meta import fingerprint
from keyforge.edge.core import cors
from keyforge.edge.core.dialects.additions import OUTPUT_TOKENS_DEFAULT
from keyforge.edge.core.dialects.openai_chat.request import TOKEN_COUNT_MAX
from keyforge.runtime.encryption import Decrypter
from keyforge.runtime.settings import CommitmentSecret, Secret, ServiceSettings

MIB = 1024 * 1024


def _private_key(value: SecretStr) -> SecretStr:
    Decrypter(value.get_secret_value())  # raises EncryptionError, a ValueError
    return value


def _origins(value: str) -> str:
    try:
        cors.parse(value)
    except ValueError as wrong:
        raise ValueError(f"KEYFORGE_CORS_ORIGINS {wrong}") from None
    return value


class EdgeSettings(ServiceSettings):
    """Settings of the agents' API."""

    port: Annotated[int, Field(ge=1, le=65535)] = 8080
    instance: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")] = "edge-0"
    nats_user: str = ""
    edge_private_key: Annotated[Secret, AfterValidator(_private_key)]
    """Decrypts credentials: X25519, hex."""
    commitment_secret: CommitmentSecret
    """What tenants' secrets are wrapped under: hex, 32 to 64 bytes."""
    request_time_limit_s: Annotated[int, Field(ge=1, le=3600)] = 600
    """A request from its admission to its end."""
    body_bytes_max: Annotated[int, Field(ge=1024, le=64 * MIB)] = 4 * MIB
    """Largest body that an agent may send."""
    body_time_limit_s: Annotated[float, Field(gt=0, le=600)] = 30.0
    """Longest that an agent may take to send it."""
    open_requests_max: Annotated[int, Field(ge=1, le=100_000)] = 5_000
    """Requests open at once; one more is refused with `edge_busy`."""
    answer_time_limit_s: Annotated[float, Field(gt=0, le=60)] = 2.0
    """Wait for budget's answer to a reserve; then it is asked once more, and at last the request is cancelled."""
    owner_time_limit_s: Annotated[float, Field(gt=0, le=60)] = 5.0
    """Wait for a partition to have an owner at all."""
    attempts_max: Annotated[int, Field(ge=1, le=16)] = 8
    """Physical calls for one request: one for each healthy quota group, at most so many."""
    connect_time_limit_s: Annotated[float, Field(gt=0, le=60)] = 5.0
    """Wait for a connection to a provider."""
    first_byte_time_limit_s: Annotated[float, Field(gt=0, le=3600)] = 300.0
    """Wait for the head of a provider's answer."""
    idle_time_limit_s: Annotated[float, Field(gt=0, le=3600)] = 300.0
    """Wait for the next bytes of a provider's answer: a model may think as long within it as before it."""
    connection_idle_time_limit_s: Annotated[float, Field(gt=0, le=3600)] = 30.0
    """How long a connection to a provider is kept unused: providers' load balancers close theirs after 60 s or more."""
    stall_time_limit_s: Annotated[float, Field(gt=0, le=3600)] = 60.0
    """How long an agent may leave a stream unread; then it counts as gone."""
    drain_time_limit_s: Annotated[float, Field(gt=0, le=3600)] = 60.0
    """How long a provider's stream is read on when its agent has gone, to learn what it used."""
    drain_bytes_max: Annotated[int, Field(ge=0, le=64 * MIB)] = 4 * MIB
    """How much of it is read."""
    early_head_s: Annotated[float, Field(gt=0, le=600)] = 10.0
    """After so long without content the head of a stream goes out, with status 200; later errors are in the stream."""
    directory_bytes_max: Annotated[int, Field(ge=64 * MIB, le=64 * 1024 * MIB)] = 256 * MIB
    """Memory for keys, those used last. One with two models takes 700 bytes: 339,000 of them; 1 GiB is enough for
    1,000,000."""
    output_tokens_default: Annotated[int, Field(ge=1, le=TOKEN_COUNT_MAX)] = OUTPUT_TOKENS_DEFAULT
    """The cap of a request that names none, where neither its key nor its model has a lower maximum."""
    cors_origins: Annotated[str, AfterValidator(_origins)] = ""
    """Origins of web pages that may call the agents' API, separated by commas; `*` for all, empty for none."""

    def made_with(self) -> dict[str, int | str]:
        """See `ServiceSettings.made_with`."""
        public_key = Decrypter(self.edge_private_key.get_secret_value()).public_key
        return super().made_with() | {
            "commitment_secret": fingerprint(
                "commitment_secret", bytes.fromhex(self.commitment_secret.get_secret_value())
            ),
            "edge_key": fingerprint("edge_key", bytes.fromhex(public_key)),
        }
