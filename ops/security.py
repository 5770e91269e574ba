"""How the command line is let in where somebody asks who comes: variables GROUPBUY_OPS_*, and nothing else.

Without a user at Kafka, and without a certificate for calls, none is needed: that is how a stack on one's own machine
works.
"""

from __future__ import annotations

import os
from typing import Any

import grpc
from pydantic import ValidationError
from pydantic_settings import SettingsConfigDict

from chassis.identity import tls
from chassis.identity.access_settings import SENTENCE, KafkaSettings
from chassis.identity.peer_identity import SpiffeId
from chassis.telemetry.redaction import REDACTED, is_secret
from eventlog.broker.security import Kafka
from ops.errors import USAGE, OpsError


class OpsSettings(KafkaSettings):
    """The command line's user at Kafka, and its certificate."""

    model_config = SettingsConfigDict(env_prefix="GROUPBUY_OPS_", frozen=True, extra="ignore")

    #: Whom to expect where the provider is.
    provider_identity: SpiffeId = "spiffe://groupbuy.internal/service/provider"


def cluster(address: str) -> Kafka:
    """The brokers at an address, host:port[,…], with what the environment says about us. Raises OpsError."""
    return _settings().cluster(address)


def dial_provider(target: str) -> grpc.aio.Channel:
    """A channel to the provider at host:port. With our certificate, if the environment names one, only to the server
    with the provider's identity. Raises OpsError."""
    settings = _settings()
    try:
        return tls.channel(target, settings, settings.provider_identity)
    except tls.BadCertificates as error:
        raise OpsError(f"{error} ({OpsSettings.variable('tls_certificate')})", USAGE) from None


def _settings() -> OpsSettings:
    given = {name: os.environ.get(OpsSettings.variable(name)) for name in ("tls_certificate", "kafka_user")}
    told: dict[str, Any] = {"insecure": not given["tls_certificate"]}
    if OpsSettings.variable("kafka_security") not in os.environ:
        told["kafka_security"] = "SASL_SSL" if given["kafka_user"] else "PLAINTEXT"
    try:
        return OpsSettings(**told)
    except ValidationError as error:
        raise OpsError("; ".join(_sentence(dict(one)) for one in error.errors(include_url=False)), USAGE) from None


def _sentence(error: dict[str, Any]) -> str:
    if error["type"] == SENTENCE:
        return str(error["msg"])
    name = OpsSettings.variable(".".join(map(str, error["loc"])))
    value = REDACTED if is_secret(name) else repr(error["input"])
    return f"{name} is {value}: {error['msg']}"
