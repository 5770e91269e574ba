"""Which certificates have an identity: every rule of X.509-SVID is broken by itself. The server names of identities."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from chassis.identity.peer_identity import (
    NotAnIdentity,
    authorities,
    issued_by,
    of_certificate,
    of_pem,
    server_name,
    spiffe_id,
)
from devstack.certificates.ca import Authority

SHOP = "spiffe://groupbuy.internal/client/shop"
NOW = datetime.now(UTC).replace(microsecond=0)
AUTHORITY = ec.generate_private_key(ec.SECP256R1())
BOTH = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
WEAK = {
    "RSA 1024": lambda: rsa.generate_private_key(65537, 1024),
    "P-224": lambda: ec.generate_private_key(ec.SECP224R1()),
    "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
}


def usage(**true: bool) -> x509.KeyUsage:
    names = ["digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"]
    names += ["key_cert_sign", "crl_sign", "encipher_only", "decipher_only"]
    return x509.KeyUsage(**{name: true.get(name, False) for name in names})


LEAF = usage(digital_signature=True)


def made(
    *uris: str,
    more: tuple[x509.GeneralName, ...] = (),
    key: Any = None,
    ca: bool | None = False,
    used: x509.KeyUsage | None = LEAF,
    critical: bool = True,
    extended: tuple[x509.ObjectIdentifier, ...] | None = BOTH,
    signed: Any = None,
) -> x509.Certificate:
    """A valid leaf certificate, changed by the arguments."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "anything")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(hours=1))
    )
    names = [x509.UniformResourceIdentifier(uri) for uri in uris]
    if names or more:
        builder = builder.add_extension(x509.SubjectAlternativeName([*more, *names]), critical=False)
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    if used is not None:
        builder = builder.add_extension(used, critical=critical)
    if extended is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=False)
    return builder.sign(AUTHORITY, signed or hashes.SHA256())


@pytest.mark.parametrize(
    "made_as",
    [
        made,
        lambda uri: made(uri, ca=None),
        lambda uri: made(uri, extended=None),
        lambda uri: made(uri, used=usage(digital_signature=True, key_encipherment=True, key_agreement=True)),
        lambda uri: made(uri, more=(x509.DNSName("a.b"), x509.IPAddress(ipaddress.ip_address("::1")))),
        lambda uri: made(uri, key=rsa.generate_private_key(65537, 2048), signed=hashes.SHA512()),
        lambda uri: made(uri, key=ec.generate_private_key(ec.SECP384R1())),
    ],
)
def test_a_leaf_with_one_spiffe_id_has_an_identity(made_as: Callable[[str], x509.Certificate]) -> None:
    certificate = made_as(SHOP)
    found = of_pem(certificate.public_bytes(Encoding.PEM))
    assert found.spiffe == SHOP
    assert found.until_s - found.since_s == 3600
    assert [found.valid(found.until_s + late) for late in (-3601, -1, 1)] == [False, True, False]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"ca": True}, "not a leaf"),
        ({"used": None}, "key usage"),
        ({"used": usage(key_agreement=True)}, "key usage"),
        ({"used": usage(digital_signature=True, key_cert_sign=True)}, "key usage"),
        ({"used": usage(digital_signature=True, crl_sign=True)}, "key usage"),
        ({"critical": False}, "not critical"),
        ({"extended": (ExtendedKeyUsageOID.CLIENT_AUTH,)}, "extended key usage"),
        ({"extended": (ExtendedKeyUsageOID.SERVER_AUTH,)}, "extended key usage"),
        ({"extended": (ExtendedKeyUsageOID.CODE_SIGNING,)}, "extended key usage"),
        ({"extended": (ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,)}, "extended key usage"),
        ({"signed": hashes.SHA224()}, "hash"),
        *(({"key": key}, "the key is neither") for key in WEAK),
    ],
)
def test_any_other_leaf_has_no_identity(changes: dict[str, Any], why: str) -> None:
    if changes.get("key") in WEAK:
        changes = {"key": WEAK[changes["key"]]()}
    with pytest.raises(NotAnIdentity, match=why):
        of_certificate(made(SHOP, **changes))


@pytest.mark.parametrize(
    "uris",
    [
        (),
        (SHOP, SHOP),
        (SHOP, "spiffe://groupbuy.internal/client/merchant"),
        (SHOP, "https://groupbuy.internal/"),
        ("https://groupbuy.internal/client/shop",),
    ],
)
def test_a_leaf_without_exactly_one_uri_has_no_identity(uris: tuple[str, ...]) -> None:
    with pytest.raises(NotAnIdentity):
        of_certificate(made(*uris))


NO_IDS = (
    "",
    "spiffe://",
    "spiffe://groupbuy.internal",
    "spiffe://groupbuy.internal/",
    "spiffe:///client/shop",
    "spiffe://groupbuy.internal/client/shop/",
    "spiffe://groupbuy.internal/client//shop",
    "spiffe://groupbuy.internal//client/shop",
    "spiffe://groupbuy.internal/client/../shop",
    "spiffe://groupbuy.internal/./shop",
    "spiffe://groupbuy.internal/client/shop?x",
    "spiffe://groupbuy.internal/client/shop#x",
    "spiffe://groupbuy.internal/client/sh%6fp",
    "spiffe://groupbuy.internal/client/shop\n",
    "spiffe://groupbuy.internal/client/shop\x00",
    "spiffe://groupbuy.internal/client/shop\x00.evil",
    " spiffe://groupbuy.internal/client/shop",
    "spiffe://groupbuy.internal:443/client/shop",
    "spiffe://me@groupbuy.internal/client/shop",
    "spiffe://Groupbuy.internal/client/shop",
    "SPIFFE://groupbuy.internal/client/shop",
    "spiffe:/groupbuy.internal/client/shop",
    f"spiffe://{'a' * 256}/client/shop",
    f"spiffe://groupbuy.internal/{'a' * 2048}",
)


@pytest.mark.parametrize("text", NO_IDS)
def test_a_text_that_only_looks_like_a_spiffe_id_is_refused(text: str) -> None:
    with pytest.raises(NotAnIdentity):
        spiffe_id(text)
    with pytest.raises(NotAnIdentity):
        of_certificate(made(text))


@pytest.mark.parametrize("text", ["spiffe://groupbuy.internal/client/sh\u043ep", "spiffe://groupbuy.internal/\u0661"])
def test_an_id_has_ascii_letters_and_digits_only(text: str) -> None:
    with pytest.raises(NotAnIdentity):
        spiffe_id(text)


def test_ids_are_compared_byte_for_byte() -> None:
    assert spiffe_id("spiffe://groupbuy.internal/client/Shop") != SHOP


def test_each_identity_has_its_own_server_name() -> None:
    assert server_name("spiffe://groupbuy.internal/service/orders") == "orders.service.groupbuy.internal"
    # These would give one name to two identities, or an invalid name.
    for wrong in ("service.orders", "service/or_ders", "service/Orders", "service/-x", f"service/{'a' * 64}"):
        with pytest.raises(NotAnIdentity):
            server_name(f"spiffe://groupbuy.internal/{wrong}")
    with pytest.raises(NotAnIdentity):
        server_name("spiffe://group_buy/service/orders")
    with pytest.raises(NotAnIdentity):
        server_name("spiffe://groupbuy.internal/" + "/".join(["a" * 63] * 4))


@pytest.mark.parametrize(
    "pem", [b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_bytes_that_are_no_certificate_are_refused(pem: bytes) -> None:
    with pytest.raises(NotAnIdentity):
        of_pem(pem)
    with pytest.raises(NotAnIdentity):
        authorities(pem)


def test_a_bundle_has_authorities_only(tmp_path: Any) -> None:
    authority = Authority(tmp_path)
    shop = authority.issue("shop", SHOP)
    found = authorities(authority.certificate.read_bytes())
    leaf = of_pem(shop.certificate.read_bytes()).certificate
    assert issued_by(leaf, found)
    assert not issued_by(leaf, authorities(Authority(tmp_path / "other").certificate.read_bytes()))
    assert not issued_by(made(SHOP), found)
    with pytest.raises(NotAnIdentity, match="not an authority's"):
        authorities(authority.certificate.read_bytes() + shop.certificate.read_bytes())
    with pytest.raises(NotAnIdentity, match="the key is neither"):
        authorities(made(key=WEAK["RSA 1024"](), ca=True).public_bytes(Encoding.PEM))


def test_a_certificate_has_the_names_of_its_identity_and_no_host(tmp_path: Any) -> None:
    authority = Authority(tmp_path)
    names = {}
    for name, spiffe in (("shop", SHOP), ("orders", "spiffe://groupbuy.internal/service/orders")):
        leaf = x509.load_pem_x509_certificate(authority.issue(name, spiffe).certificate.read_bytes())
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names[name] = [str(one.value) for one in found]
    assert names == {
        "shop": [SHOP],
        "orders": ["orders.service.groupbuy.internal", "spiffe://groupbuy.internal/service/orders"],
    }
