"""Settings of a process's identity and of the identities it trusts: certificates for gRPC, a user for Kafka.

Encryption is on by default; only `insecure` turns it off.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, FilePath, SecretStr, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings

from eventlog.broker.security import Cluster, Kafka, KafkaSecurity

#: Type of a validation error whose message is a complete sentence.
SENTENCE = "sentence"


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


class SecuritySettings(BaseSettings):
    """The certificates for gRPC, or none on a developer's machine."""

    #: Short name of the process, for messages.
    service: ClassVar[str]

    #: Turns encryption and authorisation off: every caller is `local` and may call every method. For one machine only.
    insecure: bool = False
    #: PEM file: this process's certificate with its intermediate ones. The TLS files are read again when they change.
    tls_certificate: FilePath | None = None
    #: PEM file: the key of the certificate.
    tls_key: FilePath | None = None
    #: PEM file: the authorities whose certificates are trusted.
    tls_ca: Annotated[FilePath | None, Field(validate_default=True)] = None
    #: TOML file: the access policy. By default chassis/identity/policy.toml.
    policy: FilePath | None = None

    @field_validator("tls_ca")
    @classmethod
    def _whole(cls, value: FilePath | None, info: ValidationInfo) -> FilePath | None:
        if info.data.get("insecure", True):
            return value
        parts = {"tls_certificate": info.data.get("tls_certificate"), "tls_key": info.data.get("tls_key")}
        # A setting with an invalid value has its own error.
        missing = [name for name in parts if name in info.data and parts[name] is None]
        missing += [] if value else ["tls_ca"]
        _require(cls, missing)
        return value

    @classmethod
    def variable(cls, field: str) -> str:
        """Name of the environment variable of a field."""
        return f"{cls.model_config.get('env_prefix', '')}{field}".upper()


class KafkaSettings(SecuritySettings):
    """Adds the user for Kafka."""

    #: Kafka's security protocol. By default PLAINTEXT with `insecure`, else SASL_SSL.
    kafka_security: Annotated[Literal["PLAINTEXT", "SASL_SSL"] | None, BeforeValidator(_upper)] = None
    #: SASL mechanism of the Kafka user.
    kafka_mechanism: Annotated[Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"], BeforeValidator(_upper)] = (
        "SCRAM-SHA-512"
    )
    #: Kafka user; needed with SASL_SSL.
    kafka_user: str = ""
    #: Password of the Kafka user.
    kafka_password: SecretStr = SecretStr("")
    #: File with the password of the Kafka user, in place of the password itself. A line feed at its end is left out. It
    #: is read at start.
    kafka_password_file: FilePath | None = None
    #: PEM file: the trusted authorities of the brokers' certificates.
    kafka_ca: Annotated[FilePath | None, Field(validate_default=True)] = None

    @field_validator("kafka_password_file")
    @classmethod
    def _one_password(cls, value: FilePath | None, info: ValidationInfo) -> FilePath | None:
        if value is None:
            return value
        if (given := info.data.get("kafka_password")) is not None and given.get_secret_value():
            names = f"{cls.variable('kafka_password')} and {cls.variable('kafka_password_file')}"
            raise PydanticCustomError(SENTENCE, "{sentence}", {"sentence": f"{names} are both set: set one of them"})
        try:
            empty = not _password_in(value)
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"can't be read: {error}") from error
        if empty:
            raise ValueError("the file is empty")
        return value

    @field_validator("kafka_ca")
    @classmethod
    def _whole_kafka(cls, value: FilePath | None, info: ValidationInfo) -> FilePath | None:
        needed = {"insecure", "kafka_security", "kafka_password", "kafka_password_file"}
        if not needed <= set(info.data) or not _secured(info.data):
            return value
        missing = [] if info.data["kafka_user"] else ["kafka_user"]
        given = info.data["kafka_password"].get_secret_value() or info.data["kafka_password_file"]
        missing += [] if given else ["kafka_password"]
        missing += [] if value else ["kafka_ca"]
        _require(cls, missing)
        return value

    def cluster(self, kafka: str) -> Kafka:
        """The brokers at host:port[,…], with the credentials for them."""
        if self.kafka_ca is None or not _secured({"insecure": self.insecure, "kafka_security": self.kafka_security}):
            return kafka
        file = self.kafka_password_file
        password = self.kafka_password.get_secret_value() if file is None else _password_in(file)
        return Cluster(kafka, KafkaSecurity(self.kafka_mechanism, self.kafka_user, password, self.kafka_ca))


def _password_in(file: Path) -> str:
    return file.read_text(encoding="utf-8").removesuffix("\n")


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
            "sentence": f"{few} {'is' if len(names) == 1 else 'are'} not set; encrypted connections need "
            f"{'it' if len(names) == 1 else 'them'}. On a developer's machine set "
            f"{settings.variable('insecure')}=true instead"
        },
    )
