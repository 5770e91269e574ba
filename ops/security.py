"""The credentials of the command line: the environment variables GROUPBUY_OPS_*.

Without a Kafka user and a certificate, connections are unencrypted, as in a stack on one's own machine.
"""

from __future__ import annotations

import asyncio
import os
from typing import Annotated, Any

import grpc
from pydantic import Field, ValidationError
from pydantic_settings import SettingsConfigDict

from chassis.identity import tls
from chassis.identity.access_settings import SENTENCE, KafkaSettings
from chassis.identity.peer_identity import SpiffeId
from chassis.lifecycle.variables import unknown_variables
from chassis.telemetry.redaction import REDACTED, is_secret
from eventlog.broker.security import Kafka
from ops.errors import CANNOT_RUN, OpsError, cannot_run


class OpsSettings(KafkaSettings):
    """The Kafka user and the certificate of the command line."""

    model_config = SettingsConfigDict(env_prefix="GROUPBUY_OPS_", frozen=True, extra="ignore")

    #: The SPIFFE id of the provider's server.
    provider_identity: SpiffeId = "spiffe://groupbuy.internal/service/provider"
    #: The SPIFFE id of the payments service.
    payments_identity: SpiffeId = "spiffe://groupbuy.internal/service/payments"
    #: Id of the deployment, as in GROUPBUY_PAYMENTS_ENVIRONMENT: a statement's lines of other deployments are left out.
    #: Empty: none are.
    environment: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{0,32}$")] = ""
    #: Name under which repairs are recorded on a system without certificates. Default: account and machine.
    operator: Annotated[str, Field(pattern=r"^[ -~]{0,100}$")] = ""
    #: Deadline of a broker that does not answer.
    timeout_seconds: Annotated[float, Field(gt=0)] = 10.0


def cluster(address: str) -> Kafka:
    """The Kafka cluster at host:port[,…], with the credentials of the environment. Raises OpsError."""
    return _settings().cluster(address)


def timeout_s() -> float:
    """The deadline of a silent broker, in seconds. Raises OpsError."""
    return _settings().timeout_seconds


def dial_provider(target: str) -> grpc.aio.Channel:
    """A channel to the provider at host:port. Raises OpsError.

    If the environment names a certificate, the channel uses mutual TLS and requires the provider's identity.
    """
    return _dial(target, _settings().provider_identity)


def dial_payments(target: str) -> grpc.aio.Channel:
    """A channel to the payments service at host:port. Raises OpsError. See `dial_provider`."""
    return _dial(target, _settings().payments_identity)


def encrypted() -> bool:
    """Whether the environment names a certificate, so that channels use mutual TLS. Raises OpsError."""
    return not _settings().insecure


def environments() -> frozenset[str] | None:
    """The environments of our deployment's lines in a statement; None: of all lines. Raises OpsError.

    A line without an environment may be older than the setting.
    """
    ours = _settings().environment
    return frozenset({"", ours}) if ours else None


def operator_name() -> str:
    """The operator's name on a system without certificates; empty: none is set. Raises OpsError."""
    return _settings().operator


def _dial(target: str, identity: str) -> grpc.aio.Channel:
    settings = _settings()
    try:
        return tls.open_channel(target, settings, identity)
    except tls.BadCertificates as error:
        raise OpsError(f"{error} ({OpsSettings.variable('tls_certificate')})", CANNOT_RUN) from None


async def require_provider(target: str) -> None:
    """Returns when the provider at host:port accepts a connection. Raises OpsError at the deadline."""
    deadline_s = timeout_s()
    try:
        async with asyncio.timeout(deadline_s), dial_provider(target) as channel:
            await channel.channel_ready()
    except TimeoutError:
        raise cannot_run(
            f"no provider answers at {target} within {deadline_s:g} s: start a stack with `make up`, use --provider "
            "host:port, or omit the comparison with `audit --without-provider`"
        ) from None


def _settings() -> OpsSettings:
    if unknown := unknown_variables(OpsSettings, os.environ):
        sentences = [f"{name} is unknown: did you mean {nearest}?" for name, nearest in unknown.items()]
        raise OpsError("; ".join(sentences), CANNOT_RUN)
    given = {name: os.environ.get(OpsSettings.variable(name)) for name in ("tls_certificate", "kafka_user")}
    defaults: dict[str, Any] = {"insecure": not given["tls_certificate"]}
    if OpsSettings.variable("kafka_security") not in os.environ:
        defaults["kafka_security"] = "SASL_SSL" if given["kafka_user"] else "PLAINTEXT"
    try:
        return OpsSettings(**defaults)
    except ValidationError as error:
        raise OpsError("; ".join(_sentence(dict(one)) for one in error.errors(include_url=False)), CANNOT_RUN) from None


def _sentence(error: dict[str, Any]) -> str:
    if error["type"] == SENTENCE:
        return str(error["msg"])
    name = OpsSettings.variable(".".join(map(str, error["loc"])))
    value = REDACTED if is_secret(name) else repr(error["input"])
    return f"{name} is {value}: {error['msg']}"
