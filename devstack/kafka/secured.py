"""What a local broker needs to ask who comes: its certificate, and the users it knows with their passwords.

`broker` is the broker itself, `admin` may do everything, all others only what ACLs grant. Must never be more than a
rehearsal: passwords lie in files of the broker's directory and pass through the command line of Kafka's formatter.
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
    """The broker's certificate, and a password for each user."""

    issued: Issued
    passwords: Mapping[str, str] = field(repr=False)

    @classmethod
    def made(cls, issued: Issued, users: Iterable[str]) -> Secured:
        """With fresh passwords for the users, the broker and the administrator."""
        return cls(issued, {name: secrets.token_hex(16) for name in (BROKER, ADMIN, *users)})

    def context(self) -> ssl.SSLContext:
        """To connect to it."""
        return ssl.create_default_context(cafile=str(self.issued.ca))

    def users(self) -> list[str]:
        """Arguments for Kafka's formatter that add the users."""
        found: list[str] = []
        for name, password in self.passwords.items():
            found += ["--add-scram", f"SCRAM-SHA-512=[name={name},password={password}]"]
        return found

    def values(self, directory: Path) -> dict[str, str]:
        """What the template of settings asks for; the key store is written to the directory."""
        keystore = directory / "keystore.pem"
        private_files.write(keystore, self.issued.key.read_bytes() + self.issued.certificate.read_bytes())
        return {
            "password": self.passwords[BROKER],
            "keystore": str(keystore.absolute()),
            "truststore": str(self.issued.ca.absolute()),
        }
