"""The attacked stack from outside: addresses and certificates, in a file for the attackers' processes."""

from __future__ import annotations

import json
import ssl
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc

from chassis.rpc.client_config import channel_options
from devstack.product import WEBHOOKS
from devstack.stack import Stack
from groupbuy_client import AsyncClient, mtls
from groupbuy_client.transport import expecting

SERVICES = ("orders", "groups", "payments")
#: Without retries: the attacker counts refusals.
OPTIONS = channel_options.options(retries=False, own_connection=True)


@dataclass(frozen=True, slots=True)
class Site:
    """The knowledge of an attacker. Certificates are paths by identity: certificate, key, authority."""

    endpoints: dict[str, str]
    certificates: dict[str, tuple[str, str, str]]
    kafka: str
    passwords: dict[str, str]
    #: Name of an existing campaign.
    campaign: str
    #: Name of an existing group of the campaign.
    group: str

    def write(self, path: Path) -> None:
        """Writes the file."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Site:
        """Reads the file."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))

    def channel(self, service: str, identity: str) -> grpc.aio.Channel:
        """A new channel to a service, with the certificate of an identity."""
        certificate, key, ca = self.certificates[identity]
        options = (*OPTIONS, *expecting(service, "groupbuy.internal"))
        return grpc.aio.secure_channel(self.endpoints[service], mtls(certificate, key, ca), options=options)

    def client(self, identity: str) -> AsyncClient:
        """A client with the certificate of an identity."""
        orders, groups, payments = (self.endpoints[one] for one in SERVICES)
        credentials = mtls(*self.certificates[identity])
        return AsyncClient(orders=orders, groups=groups, payments=payments, credentials=credentials, options=OPTIONS)

    def tls(self, identity: str) -> ssl.SSLContext:
        """The TLS context of a peer with its own HTTP/2 implementation."""
        certificate, key, ca = self.certificates[identity]
        made = ssl.create_default_context(cafile=ca)
        # The DNS name in the certificate is derived from the identity.
        made.check_hostname = False
        made.load_cert_chain(certificate, key)
        made.set_alpn_protocols(["h2"])
        return made

    @property
    def authority(self) -> bytes:
        """Certificate of the authority."""
        return Path(self.certificates["shop"][2]).read_bytes()

    @property
    def webhooks(self) -> str:
        """host:port of the webhook server."""
        return self.endpoints[WEBHOOKS]


def of_stack(stack: Stack, campaign: str, group: str) -> Site:
    """The site of a secured stack that is started."""
    assert stack.credentials is not None
    issued: dict[str, Any] = stack.credentials.issued
    certificates = {name: (str(one.certificate), str(one.key), str(one.ca)) for name, one in issued.items()}
    passwords = dict(stack.credentials.kafka.passwords)
    return Site(dict(stack.endpoints), certificates, stack.kafka, passwords, campaign, group)
