"""The security of a local broker: its certificate, and its SASL users with their passwords.

`broker` is the broker itself and `admin` is the super user; every other user needs ACLs. For development only: the
passwords are in files of the broker's directory and on the command line of Kafka's formatter.
"""

from __future__ import annotations

import secrets
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from devstack.certificates.ca import Issued
from devstack.supervision import private_files

BROKER, ADMIN = "broker", "admin"


@dataclass(frozen=True, slots=True)
class Secured:
    """The broker's certificate and a password for each user."""

    issued: Issued
    passwords: Mapping[str, str] = field(repr=False)

    @classmethod
    def generate(cls, issued: Issued, users: Iterable[str]) -> Secured:
        """Generates passwords for the users, the broker and the administrator."""
        return cls(issued, {name: secrets.token_hex(16) for name in (BROKER, ADMIN, *users)})

    def context(self) -> ssl.SSLContext:
        """A TLS context for clients of this broker."""
        return ssl.create_default_context(cafile=str(self.issued.ca))

    def users(self) -> list[str]:
        """Arguments of Kafka's formatter that create the users."""
        found: list[str] = []
        for name, password in self.passwords.items():
            found += ["--add-scram", f"SCRAM-SHA-512=[name={name},password={password}]"]
        return found

    def values(self, directory: Path) -> dict[str, str]:
        """Values for the settings template. Writes the key store to the directory."""
        keystore = directory / "keystore.pem"
        private_files.write(keystore, self.issued.key.read_bytes() + self.issued.certificate.read_bytes())
        return {
            "password": self.passwords[BROKER],
            "keystore": str(keystore.absolute()),
            "truststore": str(self.issued.ca.absolute()),
        }
