"""Certificates and passwords of a secured stack: created once in a directory, and passed to each process.

Each process gets only its own certificate and its own Kafka user. For development only: all secrets are in one
directory of one machine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from devstack.certificates import ca
from devstack.certificates.ca import Authority, Issued
from devstack.kafka.secured import ADMIN, Secured
from devstack.product import CONSOLE, INVENTORY, PROVIDER, SERVICES, SHARE
from devstack.supervision import private_files

OPS = "ops"
#: Kafka users that have ACLs only while an operator uses them: see eventlog/admin/acls.py.
PROVISION, REDRIVE = "provision", "redrive"
#: The Kafka user of other systems, which reads the public topics.
READER = "reader"
#: The identity that makes health checks.
MONITOR = "monitor"
_OPERATOR = "operator"


class Credentials:
    """The credentials of one directory; missing ones are created."""

    def __init__(self, directory: Path, policy: Path | None = None) -> None:
        """`policy` names the identities and what they may call; by default chassis/identity/policy.toml."""
        self.directory = directory.absolute()
        self._policy = policy.absolute() if policy else None
        authority = Authority(self.directory)
        #: SPIFFE ids by name.
        self.identities = ca.identities(self._policy)
        #: Certificates by name of the identity.
        self.issued: dict[str, Issued] = {
            name: authority.issue(name, one, hosts=ca.HOSTS if name == ca.KAFKA else ())
            for name, one in self.identities.items()
        }
        kept = self.directory / "passwords.json"
        if kept.exists():
            self.kafka = Secured(self.issued["kafka"], json.loads(kept.read_text(encoding="utf-8")))
        else:
            self.kafka = Secured.generate(self.issued["kafka"], (*SERVICES, INVENTORY, OPS, READER, PROVISION, REDRIVE))
            _keep(kept, json.dumps(dict(self.kafka.passwords)))
        variables = self.environment(OPS)
        _keep(self.ops_file, "".join(f"{name}={value}\n" for name, value in variables.items()))

    @property
    def ops_file(self) -> Path:
        """A file with the variables of the command line, for a shell to source."""
        return self.directory / "ops.env"

    def environment(self, name: str) -> Mapping[str, str]:
        """Environment variables of a service's process, of the provider, or of the command line as one of its users."""
        if name == PROVIDER:
            variables = {**self._certificate(name), **self._rules()}
            return {f"GROUPBUY_SIMPROVIDER_{key}": value for key, value in variables.items()}
        if name in {OPS, ADMIN, PROVISION, REDRIVE}:
            variables = {**self._certificate(_OPERATOR), **self._user(name)}
            return {f"GROUPBUY_OPS_{key}": value for key, value in variables.items()}
        if name == CONSOLE:
            share = self.issued[SHARE]
            variables = {
                **self._certificate(name),
                "SHARE_TLS_CERTIFICATE": str(share.certificate),
                "SHARE_TLS_KEY": str(share.key),
                # The provider gives its statement to the operator alone.
                "STATEMENTS": "",
            }
            # It reads Kafka with the rights of the command line, which write nothing.
            reader = {f"GROUPBUY_OPS_{key}": value for key, value in self._user(OPS).items()}
            return {**{f"GROUPBUY_CONSOLE_{key}": value for key, value in variables.items()}, **reader}
        service = name.partition("-")[0]
        variables = {**self._certificate(service), **self._user(service), **self._rules()}
        return {f"GROUPBUY_{service.upper()}_{key}": value for key, value in variables.items()}

    def _certificate(self, name: str) -> dict[str, str]:
        issued = self.issued[name]
        return {
            "INSECURE": "false",
            "TLS_CERTIFICATE": str(issued.certificate),
            "TLS_KEY": str(issued.key),
            "TLS_CA": str(issued.ca),
        }

    def _rules(self) -> dict[str, str]:
        return {"POLICY": str(self._policy)} if self._policy else {}

    def _user(self, name: str) -> dict[str, str]:
        issued = self.issued["kafka"]
        return {
            "KAFKA_SECURITY": "SASL_SSL",
            "KAFKA_USER": name,
            "KAFKA_PASSWORD": self.kafka.passwords[name],
            "KAFKA_CA": str(issued.ca),
        }


def _keep(path: Path, text: str) -> None:
    private_files.write(path, text.encode())
