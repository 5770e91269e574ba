"""The identity in a certificate: its SPIFFE ID, and the server name that belongs to it.

The only parser of certificates: for our own, at start and after a renewal, and for each peer's. It applies the rules of
SPIFFE-ID and X.509-SVID to leaf certificates byte for byte and normalises nothing. TLS verified the signature chain and
the dates during the handshake; chassis/identity/authorizer.py checks again whatever may change during a connection.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from pydantic import AfterValidator

#: SPIFFE-ID, section 2: the scheme in lower case, the trust domain, then segments; no port, query, fragment or escape.
_ID = re.compile(r"spiffe://(?P<domain>[a-z0-9._-]{1,255})(?P<path>(?:/[A-Za-z0-9._-]+)+)", re.ASCII)
MAX_ID_BYTES = 2048
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
MAX_NAME_BYTES = 253
#: Bits of an RSA key. Above the upper bound, verifying one handshake costs more than 10 ms.
RSA_BITS = range(2048, 8193)
CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_BOTH_WAYS = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}

E = TypeVar("E", bound=x509.ExtensionType)


class NotAnIdentity(ValueError):
    """A certificate or a text has no valid identity. The message has the reason."""


def spiffe_id(text: str) -> str:
    """Returns the text if it is the SPIFFE ID of a workload. Raises NotAnIdentity."""
    match = _ID.fullmatch(text)
    if match is None or len(text) > MAX_ID_BYTES:
        raise NotAnIdentity("not spiffe://<trust domain>/<path>")
    if any(segment in {".", ".."} for segment in match["path"].split("/")):
        raise NotAnIdentity("a segment of the path is . or ..")
    return text


SpiffeId = Annotated[str, AfterValidator(spiffe_id)]


def trust_domain(spiffe: str) -> str:
    """The trust domain of a SPIFFE ID."""
    return spiffe.split("/")[2]


def server_name(spiffe: str) -> str:
    """DNS name in the certificate of a server with this identity: the path reversed, then the trust domain.

    For `spiffe://groupbuy.internal/service/orders` it is `orders.service.groupbuy.internal`. gRPC verifies DNS names
    and no URIs, so callers expect an identity by this name. No two identities share a name. Raises NotAnIdentity if the
    identity has no such name.
    """
    domain, *path = spiffe_id(spiffe).removeprefix("spiffe://").split("/")
    labels = [*reversed(path), *domain.split(".")]
    name = ".".join(labels)
    # With dots in segments two identities could have one name.
    if not all(_LABEL.fullmatch(label) for label in labels) or len(name) > MAX_NAME_BYTES:
        raise NotAnIdentity(f"{spiffe} can't be the name of a server: segments are a-z, 0-9 and -, 63 at most")
    return name


@dataclass(frozen=True, slots=True)
class Identity:
    """The identity in a certificate, and the time for which it is valid."""

    spiffe: str
    #: Seconds since the epoch.
    since_s: float
    until_s: float
    certificate: x509.Certificate = field(repr=False, compare=False)

    @property
    def serves(self) -> bool:
        """Whether the certificate has the DNS name of its identity. Raises NotAnIdentity as `server_name`."""
        names = _extension(self.certificate.extensions, x509.SubjectAlternativeName)
        return names is not None and server_name(self.spiffe) in names.get_values_for_type(x509.DNSName)

    def valid(self, now_s: float) -> bool:
        """Whether the certificate is valid at this time."""
        return self.since_s <= now_s <= self.until_s


def of_pem(pem: bytes) -> Identity:
    """The identity in the first certificate of a PEM. Raises NotAnIdentity."""
    try:
        return of_certificate(x509.load_pem_x509_certificates(pem)[0])
    except (ValueError, UnsupportedAlgorithm) as error:
        if isinstance(error, NotAnIdentity):
            raise
        raise NotAnIdentity("no X.509 certificate in PEM") from None


def of_certificate(certificate: x509.Certificate) -> Identity:
    """The identity in a leaf certificate. Raises NotAnIdentity."""
    try:
        extensions = certificate.extensions
        algorithm = certificate.signature_hash_algorithm
        _require_strong(certificate)
    except NotAnIdentity:
        raise
    # A duplicate extension, a name that is not ASCII, a key type that the library does not know.
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, UnsupportedAlgorithm) as error:
        raise NotAnIdentity(f"the certificate can't be read: {type(error).__name__}") from None
    if certificate.version is not x509.Version.v3:
        raise NotAnIdentity("not an X.509 certificate of version 3")
    if not isinstance(algorithm, HASHES):
        raise NotAnIdentity("signed with a hash other than SHA-256, SHA-384 or SHA-512")
    _require_leaf(extensions)
    return Identity(
        _only_uri(extensions),
        certificate.not_valid_before_utc.timestamp(),
        certificate.not_valid_after_utc.timestamp(),
        certificate,
    )


def authorities(pem: bytes) -> tuple[x509.Certificate, ...]:
    """The authorities in a PEM bundle. Raises NotAnIdentity if one is no authority or has a weak key."""
    try:
        found = tuple(x509.load_pem_x509_certificates(pem))
        for one in found:
            _require_authority(one)
    except NotAnIdentity:
        raise
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, UnsupportedAlgorithm):
        raise NotAnIdentity("the bundle is no list of certificates in PEM") from None
    return found


def issued_by(certificate: x509.Certificate, some: Iterable[x509.Certificate]) -> bool:
    """Whether one of the authorities signed the certificate directly."""
    for authority in some:
        try:
            certificate.verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            continue
        return True
    return False


def _only_uri(extensions: x509.Extensions) -> str:
    names = _extension(extensions, x509.SubjectAlternativeName)
    # Every URI counts, whatever its scheme: X.509-SVID, section 2.
    found: Sequence[str] = names.get_values_for_type(x509.UniformResourceIdentifier) if names else ()
    if len(found) != 1:
        raise NotAnIdentity(f"{len(found)} URIs among the alternative names, not one")
    return spiffe_id(found[0])


def _require_leaf(extensions: x509.Extensions) -> None:
    constraints = _extension(extensions, x509.BasicConstraints)
    if constraints is not None and constraints.ca:
        raise NotAnIdentity("an authority's certificate, not a leaf")
    usage = _extension(extensions, x509.KeyUsage)
    if usage is None or not usage.digital_signature or usage.key_cert_sign or usage.crl_sign:
        raise NotAnIdentity("the key usage is not digitalSignature without keyCertSign and cRLSign")
    if not extensions.get_extension_for_class(x509.KeyUsage).critical:
        raise NotAnIdentity("the key usage is not critical")
    extended = _extension(extensions, x509.ExtendedKeyUsage)
    if extended is not None and not set(extended) >= _BOTH_WAYS:
        raise NotAnIdentity("the extended key usage lacks serverAuth or clientAuth")


def _require_authority(certificate: x509.Certificate) -> None:
    _require_strong(certificate)
    constraints = _extension(certificate.extensions, x509.BasicConstraints)
    if constraints is None or not constraints.ca:
        raise NotAnIdentity("a certificate of the bundle is not an authority's")


def _require_strong(certificate: x509.Certificate) -> None:
    key = certificate.public_key()
    strong = (
        key.key_size in RSA_BITS
        if isinstance(key, rsa.RSAPublicKey)
        else isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, CURVES)
    )
    if not strong:
        raise NotAnIdentity("the key is neither RSA of 2048 to 8192 bits nor on P-256, P-384 or P-521")


def _extension(extensions: x509.Extensions, kind: type[E]) -> E | None:
    try:
        return extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
