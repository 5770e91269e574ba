"""Addresses and credentials of a Kafka cluster, and the arguments that client libraries take for them.

An address alone, `host:port[,…]`, stands for a cluster without authentication. No text of these objects shows the
password.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class KafkaSecurity:
    """SASL over TLS: mechanism, user and password, and the file of the CA that signed the brokers' certificates."""

    mechanism: str
    user: str
    password: str = field(repr=False)
    ca: Path


@dataclass(frozen=True, slots=True)
class Cluster:
    """The address of a cluster with authentication, and the credentials."""

    address: str
    security: KafkaSecurity

    def __str__(self) -> str:
        return self.address


Kafka: TypeAlias = "str | Cluster"


def client(kafka: Kafka) -> dict[str, Any]:
    """Keyword arguments of any aiokafka client for a cluster. Raises OSError or SSLError if the CA can't be loaded."""
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
    """The credentials of a Faust app for a cluster; None without authentication."""
    if isinstance(kafka, str):
        return None
    # Imported here because it loads half of Faust, and most callers of this module don't need it.
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
