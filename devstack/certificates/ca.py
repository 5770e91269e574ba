"""A certificate authority for development, and a certificate for every identity: `python -m devstack.certificates.ca`.

The policy table names the identities. A certificate has the identity's SPIFFE id and only its own host names: a
service's certificate has the server name of its identity, the Kafka broker's has the addresses of this machine, a
client's has none. The private key is beside it, readable by its owner only. For development only: the authority's own
key is in the same directory.
"""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from devstack.supervision import private_files

DIRECTORY = Path(".run/certificates")
LIFE = timedelta(days=30)
_CA_LIFE = timedelta(days=365)
# Certificates are valid from a little before now: clocks of two machines differ.
_SLACK = timedelta(minutes=5)
#: Names of this machine. Kafka clients verify the host that they connect to.
HOSTS = ("localhost", "127.0.0.1", "::1")
KAFKA = "kafka"
_NO_USAGE = dict.fromkeys(
    (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    ),
    False,
)
_SERVER = x509.KeyUsage(**_NO_USAGE | {"digital_signature": True})
_AUTHORITY = x509.KeyUsage(**_NO_USAGE | {"key_cert_sign": True, "crl_sign": True})
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True)
class Issued:
    """PEM files of a certificate and of the authority that signed it."""

    certificate: Path
    key: Path
    ca: Path


class Authority:
    """Signs certificates into one directory: `ca.pem`, and `<name>.pem` with `<name>.key`."""

    def __init__(self, directory: Path) -> None:
        """Loads the authority of the directory, or creates one."""
        self.directory = directory
        self.certificate = directory / "ca.pem"
        key = directory / "ca.key"
        private_files.directory(directory)
        if key.exists() and self.certificate.exists():
            loaded = load_pem_private_key(key.read_bytes(), password=None)
            if not isinstance(loaded, ec.EllipticCurvePrivateKey):
                raise ValueError(f"{key} is not a key of this authority")
            self._key = loaded
            self._ca = x509.load_pem_x509_certificate(self.certificate.read_bytes())
            return
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._ca = _self_signed(self._key)
        _write_key(key, self._key)
        private_files.replace(self.certificate, self._ca.public_bytes(Encoding.PEM))

    def issue(
        self,
        name: str,
        *spiffe_ids: str,
        hosts: Sequence[str] = (),
        life: timedelta = LIFE,
        since: datetime | None = None,
        key: PrivateKey | None = None,
        usage: x509.KeyUsage = _SERVER,
        own: bool = True,
    ) -> Issued:
        """Signs a new certificate for `life` from `since` (default: now) and replaces the files of that name.

        `hosts` are additional host names. The certificate also has the server names of its identities, unless `own` is
        false.
        """
        begin = since or datetime.now(UTC) - _SLACK
        end = (since or datetime.now(UTC)) + life
        key = key or ec.generate_private_key(ec.SECP256R1())
        names = [_host(host) for host in (*(own_names(*spiffe_ids) if own else ()), *hosts)]
        names += [x509.UniformResourceIdentifier(one) for one in spiffe_ids]
        both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(self._ca.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.ExtendedKeyUsage(both), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        made = builder.sign(self._key, hashes.SHA256())
        issued = Issued(self.directory / f"{name}.pem", self.directory / f"{name}.key", self.certificate)
        _write_key(issued.key, key)
        private_files.replace(issued.certificate, made.public_bytes(Encoding.PEM))
        return issued


def _self_signed(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "group buying, development only")])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SLACK)
        .not_valid_after(now + _CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_AUTHORITY, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write_key(path: Path, key: PrivateKey) -> None:
    private_files.replace(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def own_names(*spiffe_ids: str) -> tuple[str, ...]:
    """Server names of those identities that are services."""
    from chassis.identity.peer_identity import NotAnIdentity, server_name, spiffe_id

    found = []
    for one in spiffe_ids:
        with contextlib.suppress(NotAnIdentity):
            if spiffe_id(one).split("/")[3] == "service":
                found.append(server_name(one))
    return tuple(found)


def identities(policy: Path | None = None) -> dict[str, str]:
    """SPIFFE ids by name: those of a policy (default: chassis/identity/policy.toml), and the Kafka broker's.

    Raises PolicyError.
    """
    from chassis.identity.policy import EVERY, FILE, read

    table = {name: spiffe for spiffe, name in read(policy or FILE, EVERY).names.items()}
    domain = next(iter(table.values())).split("/")[2]
    return {**table, KAFKA: f"spiffe://{domain}/broker/kafka"}


def _known(parser: argparse.ArgumentParser, policy: Path | None) -> dict[str, str]:
    from chassis.identity.policy import PolicyError

    try:
        return identities(policy)
    except PolicyError as error:
        parser.error(str(error))


def main(arguments: Sequence[str] | None = None) -> int:
    """Creates the authority and the certificates. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m devstack.certificates.ca", description="Creates certificates for development."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="name of an identity (default: all)")
    parser.add_argument(
        "--directory", type=Path, default=DIRECTORY, help="directory for keys and certificates (default: %(default)s)"
    )
    parser.add_argument(
        "--host",
        action="append",
        default=[],
        metavar="NAME=HOST",
        help="additional host name or address of a server; repeatable",
    )
    parser.add_argument(
        "--days", type=float, default=LIFE.days, help="days until the certificates expire (default: %(default)s)"
    )
    parser.add_argument(
        "--policy", type=Path, help="policy that names the identities (default: chassis/identity/policy.toml)"
    )
    options = parser.parse_args(arguments)
    known = _known(parser, options.policy)
    unknown = sorted(set(options.names) - known.keys())
    if unknown:
        parser.error(f"unknown identity: {', '.join(unknown)}; known are {', '.join(known)}")
    if options.days <= 0:
        parser.error("--days must be greater than 0")
    hosts: dict[str, list[str]] = {KAFKA: list(HOSTS)}
    for given in options.host:
        name, _, host = given.partition("=")
        if name not in known or not host or "/client/" in known[name]:
            parser.error(f"--host {given}: use NAME=HOST, where NAME is a server")
        hosts.setdefault(name, []).append(host)
    try:
        authority = Authority(options.directory)
        for name in options.names or known:
            issued = authority.issue(name, known[name], hosts=hosts.get(name, ()), life=timedelta(days=options.days))
            print(f"{known[name]}  {issued.certificate}")
    except OSError as error:
        parser.error(f"{error.filename or options.directory}: {error.strerror}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
