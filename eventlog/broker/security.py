"""How to be let in at a Kafka cluster: the one place that knows the client libraries' words for it.

An address alone, `host:port[,…]`, is a cluster that asks for nothing; a Cluster carries what it asks for. Must never
show a password.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class KafkaSecurity:
    """SASL over TLS: our name and password there, and who may have signed the brokers' certificates."""

    mechanism: str
    user: str
    password: str = field(repr=False)
    ca: Path


@dataclass(frozen=True, slots=True)
class Cluster:
    """Brokers, and what they ask for."""

    address: str
    security: KafkaSecurity

    def __str__(self) -> str:
        return self.address


Kafka: TypeAlias = "str | Cluster"


def client(kafka: Kafka) -> dict[str, Any]:
    """What every client of aiokafka is to be made with to reach a cluster. Raises OSError, SSLError for a bad CA."""
    if isinstance(kafka, str):
        return {"bootstrap_servers": kafka}
    security = kafka.security
    return {
        "bootstrap_servers": kafka.address,
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": security.mechanism,
        "sasl_plain_username": security.user,
        "sasl_plain_password": security.password,
        "ssl_context": _context(security.ca),
    }


def credentials(kafka: Kafka) -> Any:
    """The same for a Faust app; None where nothing is asked for."""
    if isinstance(kafka, str):
        return None
    # Loads half of Faust, which few of our callers need.
    from faust.auth import SASLCredentials

    security = kafka.security
    return SASLCredentials(
        username=security.user,
        password=security.password,
        mechanism=security.mechanism,
        ssl_context=_context(security.ca),
    )


@lru_cache
def _context(ca: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(ca))
