"""Settings of our identity and of whom we trust: for gRPC a certificate, for Kafka a user. The same for every process.

Nothing is open by omission: a process without encryption has a setting of its own for that, `insecure`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, FilePath, SecretStr, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings

from eventlog.broker.security import Cluster, Kafka, KafkaSecurity

#: Type of an error whose message is a whole sentence.
SENTENCE = "sentence"


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


class SecuritySettings(BaseSettings):
    """Certificates for gRPC, a user for Kafka; or, for a developer's machine, neither."""

    #: Nothing is encrypted and every caller passes for `local`, who may call everything. For one machine alone.
    insecure: bool = False
    #: PEM files: our certificate with what lies between it and the authority, its key, the authorities we trust. They
    #: are read again when they change.
    tls_certificate: FilePath | None = None
    tls_key: FilePath | None = None
    tls_ca: Annotated[FilePath | None, Field(validate_default=True)] = None
    #: Who may call what; the table beside this module if it is not set.
    policy: FilePath | None = None

    @field_validator("tls_ca")
    @classmethod
    def _whole(cls, value: FilePath | None, info: ValidationInfo) -> FilePath | None:
        if info.data.get("insecure", True):
            return value
        parts = {"tls_certificate": info.data.get("tls_certificate"), "tls_key": info.data.get("tls_key")}
        # One that was set and can't be used has an error of its own.
        missing = [name for name in parts if name in info.data and parts[name] is None]
        missing += [] if value else ["tls_ca"]
        _require(cls, missing)
        return value

    @classmethod
    def variable(cls, field: str) -> str:
        """Name of the environment variable of a field."""
        return f"{cls.model_config.get('env_prefix', '')}{field}".upper()


class KafkaSettings(SecuritySettings):
    """The same, for processes that speak to Kafka."""

    #: How to speak to Kafka; PLAINTEXT if it is not set and all is insecure, else SASL_SSL.
    kafka_security: Annotated[Literal["PLAINTEXT", "SASL_SSL"] | None, BeforeValidator(_upper)] = None
    kafka_mechanism: Annotated[Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"], BeforeValidator(_upper)] = (
        "SCRAM-SHA-512"
    )
    kafka_user: str = ""
    kafka_password: SecretStr = SecretStr("")
    #: PEM file: the authorities that may have signed the brokers' certificates.
    kafka_ca: Annotated[FilePath | None, Field(validate_default=True)] = None

    @field_validator("kafka_ca")
    @classmethod
    def _whole_kafka(cls, value: FilePath | None, info: ValidationInfo) -> FilePath | None:
        if not {"insecure", "kafka_security", "kafka_password"} <= set(info.data) or not _secured(info.data):
            return value
        missing = [] if info.data["kafka_user"] else ["kafka_user"]
        missing += [] if info.data["kafka_password"].get_secret_value() else ["kafka_password"]
        missing += [] if value else ["kafka_ca"]
        _require(cls, missing)
        return value

    def cluster(self, kafka: str) -> Kafka:
        """The brokers at an address, host:port[,…], with what it takes to be let in there."""
        if self.kafka_ca is None or not _secured({"insecure": self.insecure, "kafka_security": self.kafka_security}):
            return kafka
        password = self.kafka_password.get_secret_value()
        return Cluster(kafka, KafkaSecurity(self.kafka_mechanism, self.kafka_user, password, self.kafka_ca))


def _secured(data: dict[str, object]) -> bool:
    return data["kafka_security"] == "SASL_SSL" or (data["kafka_security"] is None and not data["insecure"])


def _require(settings: type[SecuritySettings], missing: list[str]) -> None:
    if not missing:
        return
    names = [settings.variable(name) for name in missing]
    few = " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
    raise PydanticCustomError(
        SENTENCE,
        "{sentence}",
        {
            "sentence": f"{few} {'is' if len(names) == 1 else 'are'} not set: set what is needed for encrypted "
            f"connections, or {settings.variable('insecure')}=true on a developer's machine"
        },
    )
