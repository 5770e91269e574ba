"""Settings of a service process, read from the environment once, at start. A change takes effect after a restart.

An invalid setting, or an unknown variable with our prefix, ends the process with code 2 and names the variable.
"""

from __future__ import annotations

import os
import re
import socket
import sys
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_settings import SettingsConfigDict

from chassis.identity.access_settings import SENTENCE, KafkaSettings, SecuritySettings
from chassis.lifecycle.variables import Shape, unknown_variables
from chassis.telemetry.redaction import REDACTED, is_secret
from eventlog.broker.security import Kafka

EXIT_CODE = 2

_HOST_PORT = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+):(?P<port>\d{1,5})")


def host_and_port(address: str) -> tuple[str, int]:
    """Splits `host:port` or `[v6]:port`. Raises ValueError with the reason."""
    match = _HOST_PORT.fullmatch(address)
    if match is None or int(match["port"]) > 65535:
        raise ValueError("must be host:port")
    return match["host"].strip("[]"), int(match["port"])


def _one(address: str) -> str:
    host_and_port(address)
    return address


def _one_or_none(address: str) -> str:
    return _one(address) if address else ""


def _some(addresses: str) -> str:
    found = [address.strip() for address in addresses.split(",")]
    try:
        for address in found:
            host_and_port(address)
    except ValueError:
        raise ValueError("must be host:port, several separated by commas") from None
    return ",".join(found)


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


HostPort = Annotated[str, AfterValidator(_one), Shape("host:port")]
MaybeHostPort = Annotated[str, AfterValidator(_one_or_none), Shape("host:port")]
HostPorts = Annotated[str, AfterValidator(_some), Shape("host:port, several separated by commas")]
Instance = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,100}$"), Shape("1 to 100 of A-Z a-z 0-9 . _ -")]


class ServiceSettings(KafkaSettings):
    """The settings of every service. A service adds its name, the prefix of its variables and its defaults."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    #: Short name of the service: its folder, and the second part of the names of its consumer groups.
    service: ClassVar[str]

    #: Kafka's bootstrap servers.
    kafka: HostPorts = "127.0.0.1:9092"
    #: Address of the gRPC server.
    listen: HostPort
    #: Address at which other replicas reach this one. By default that of the gRPC server, with the host's name in place
    #: of 0.0.0.0.
    advertise: HostPort | None = None
    #: Address of the HTTP port with /metrics, /live, /ready and /startup. It has no authentication: only the monitoring
    #: network should reach it. Empty: nothing is served.
    metrics_listen: MaybeHostPort = ""
    #: Directory of the checkpoints. They make a restart fast; losing them loses no data.
    state_dir: Path
    #: Name of this process among its replicas: unique, and the same across restarts.
    instance: Instance
    #: Replicas that follow each partition in addition to its owner, as far as there are others. One of them takes over
    #: in a moment. With 0, a new owner folds the partition's log, and the partition is unavailable meanwhile.
    standbys: int = Field(default=1, ge=0)
    #: Maximum seconds for which a process with an empty or old state directory folds ahead before it joins the other
    #: replicas, which answer meanwhile. With 0 it joins at once.
    warm_seconds: float = Field(default=900.0, ge=0, le=86_400)
    #: Seconds after which the broker gives the partitions of a process that it does not hear from to others. A process
    #: that is back within them keeps its partitions. Reads end as late after a process was cut off, and the partitions
    #: of a dead one are away for as long.
    session_seconds: float = Field(default=10.0, ge=6, le=30)
    #: The least severe entries that are logged.
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = "info"
    #: Format of the log: one JSON object a line, or text for a terminal.
    log_format: Annotated[Literal["json", "console"], BeforeValidator(_lower)] = "json"
    #: Lines about business events in one second, on average. Further events have no line; the log reports their number.
    #: 0: none.
    event_lines_per_second: int = Field(default=200, ge=0)
    #: Share of the traces that begin here which is sampled. A caller's traceparent brings its own decision.
    trace_share: float = Field(default=0.01, ge=0, le=1)
    #: Seconds in which calls in flight finish after SIGTERM; as many again for the processors.
    drain_seconds: float = Field(default=10.0, gt=0, le=600)
    #: Limit of unary calls in flight. Further calls are answered RESOURCE_EXHAUSTED.
    max_calls: int = Field(default=2_000, ge=1)
    #: Limit of open streams.
    max_streams: int = Field(default=20_000, ge=1)

    @property
    def address(self) -> str:
        """host:port at which other replicas reach this process."""
        if self.advertise is not None:
            return self.advertise
        host, port = host_and_port(self.listen)
        return f"{socket.gethostname()}:{port}" if host in {"0.0.0.0", "::"} else self.listen

    @property
    def brokers(self) -> Kafka:
        """Kafka's brokers, with the credentials for them."""
        return self.cluster(self.kafka)


S = TypeVar("S", bound=SecuritySettings)


def load(settings: type[S], **overrides: Any) -> S:
    """Reads the settings. Ends the process with code 2 and a message that names each invalid or unknown variable.

    `overrides`, by field, take precedence over the environment.
    """
    unknown = unknown_variables(settings, os.environ)
    bad = [f"{name} is unknown: did you mean {nearest}?" for name, nearest in unknown.items()]
    try:
        read = settings(**overrides)
    except ValidationError as error:
        bad += [_sentence(settings, dict(one)) for one in error.errors(include_url=False)]
    if bad:
        sys.stderr.write(f"{settings.service} can't start: {'; '.join(bad)}\n")
        raise SystemExit(EXIT_CODE)
    return read


def _sentence(settings: type[SecuritySettings], error: dict[str, Any]) -> str:
    name = settings.variable(".".join(str(part) for part in error["loc"]))
    if error["type"] == "missing":
        return f"{name} is not set"
    if error["type"] == SENTENCE:
        return str(error["msg"])
    message = str(error["msg"]).removeprefix("Value error, ")
    value = REDACTED if is_secret(name) else repr(error["input"])
    return f"{name} is {value}: {message[:1].lower()}{message[1:]}"
