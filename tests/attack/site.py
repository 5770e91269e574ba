"""A stack from outside: its addresses and certificates, written down for the attackers' processes."""

from __future__ import annotations

import json
import ssl
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc

from devstack.product import WEBHOOKS
from devstack.stack import Stack
from groupbuy_client import AsyncClient, mtls
from groupbuy_client.transport import expecting

SERVICES = ("orders", "groups", "payments")
#: Calls that are refused are not made again: the attacker counts them.
OPTIONS = (("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1))


@dataclass(frozen=True, slots=True)
class Site:
    """All that an attacker knows. Certificates are paths by identity: certificate, key, authority."""

    endpoints: dict[str, str]
    certificates: dict[str, tuple[str, str, str]]
    kafka: str
    passwords: dict[str, str]
    #: Of a campaign that there is.
    campaign: str
    #: Of a group that there is, in that campaign.
    group: str

    def write(self, path: Path) -> None:
        """Writes it down."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Site:
        """As it was written."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))

    def channel(self, service: str, identity: str) -> grpc.aio.Channel:
        """A channel of its own to a service, with the certificate of an identity."""
        certificate, key, ca = self.certificates[identity]
        options = (*OPTIONS, *expecting(service, "groupbuy.internal"))
        return grpc.aio.secure_channel(self.endpoints[service], mtls(certificate, key, ca), options=options)

    def client(self, identity: str) -> AsyncClient:
        """A client with the certificate of an identity."""
        orders, groups, payments = (self.endpoints[one] for one in SERVICES)
        credentials = mtls(*self.certificates[identity])
        return AsyncClient(orders=orders, groups=groups, payments=payments, credentials=credentials, options=OPTIONS)

    def tls(self, identity: str) -> ssl.SSLContext:
        """For a peer that speaks HTTP/2 by itself."""
        certificate, key, ca = self.certificates[identity]
        made = ssl.create_default_context(cafile=ca)
        # The name in the certificate is the identity's.
        made.check_hostname = False
        made.load_cert_chain(certificate, key)
        made.set_alpn_protocols(["h2"])
        return made

    @property
    def authority(self) -> bytes:
        """Certificate of the authority, which is no secret."""
        return Path(self.certificates["shop"][2]).read_bytes()

    @property
    def webhooks(self) -> str:
        """host:port where providers post."""
        return self.endpoints[WEBHOOKS]


def of_stack(stack: Stack, campaign: str, group: str) -> Site:
    """A secured stack, once started."""
    assert stack.credentials is not None
    issued: dict[str, Any] = stack.credentials.issued
    certificates = {name: (str(one.certificate), str(one.key), str(one.ca)) for name, one in issued.items()}
    passwords = dict(stack.credentials.kafka.passwords)
    return Site(dict(stack.endpoints), certificates, stack.kafka, passwords, campaign, group)
