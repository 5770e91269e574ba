"""Certificates and passwords of a secured stack: each process gets its own, and a second start reuses them."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography import x509

from devstack.certificates.ca import Authority, identities, main
from devstack.certificates.credentials import Credentials

PROCESSES = ("orders", "groups", "payments", "provider", "ops", "admin")


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    return Credentials(tmp_path_factory.mktemp("credentials"))


def test_a_process_gets_only_its_own_password_and_key(credentials: Credentials) -> None:
    for name in PROCESSES:
        variables = str(credentials.environment(name))
        others = [one for user, one in credentials.kafka.passwords.items() if user != name]
        assert not any(password in variables for password in others), name
    orders = credentials.environment("orders")
    assert orders["GROUPBUY_ORDERS_KAFKA_PASSWORD"] == credentials.kafka.passwords["orders"]
    assert orders["GROUPBUY_ORDERS_TLS_KEY"] == str(credentials.directory / "orders.key")
    assert orders["GROUPBUY_ORDERS_INSECURE"] == "false"
    assert not any("KAFKA" in name for name in credentials.environment("provider"))


def test_replicas_of_a_service_have_the_identity_of_the_service(credentials: Credentials) -> None:
    assert credentials.environment("groups-2") == credentials.environment("groups")


def test_secret_files_are_private_and_secrets_are_in_no_repr(credentials: Credentials) -> None:
    secret = [*credentials.directory.glob("*.key"), credentials.ops_file, credentials.directory / "passwords.json"]
    assert len(secret) == len(identities()) + 3
    assert {stat.S_IMODE(path.stat().st_mode) for path in secret} == {0o600}
    assert not any(password in f"{credentials.kafka!r}" for password in credentials.kafka.passwords.values())


def test_a_second_start_keeps_authority_and_passwords(credentials: Credentials) -> None:
    before = credentials.issued["orders"].ca.read_bytes(), dict(credentials.kafka.passwords)
    again = Credentials(credentials.directory)
    assert (again.issued["orders"].ca.read_bytes(), dict(again.kafka.passwords)) == before


def test_a_certificate_has_the_names_of_its_identity_and_the_requested_hosts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--directory", str(tmp_path), "--host", "orders=orders.shop.svc", "--days", "1"]
    assert main(["orders", "shop", "groups", "kafka", *options]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("spiffe://groupbuy.internal/client/shop")
    found = {}
    for name in ("orders", "shop", "groups", "kafka"):
        made = x509.load_pem_x509_certificate((tmp_path / f"{name}.pem").read_bytes())
        names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.UniformResourceIdentifier) == [identities()[name]]
        found[name] = names.get_values_for_type(x509.DNSName), len(names)
    assert found == {
        "orders": (["orders.service.groupbuy.internal", "orders.shop.svc"], 3),
        "shop": ([], 1),
        "groups": (["groups.service.groupbuy.internal"], 2),
        "kafka": (["localhost"], 4),
    }
    made.verify_directly_issued_by(x509.load_pem_x509_certificate(Authority(tmp_path).certificate.read_bytes()))


@pytest.mark.parametrize("host", ["orders.shop.svc", "orders=", "nobody=a.b", "shop=shop.svc"])
def test_a_host_option_names_a_server_and_a_host(tmp_path: Path, host: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--directory", str(tmp_path), "--host", host])
    assert ended.value.code == 2
    assert "use NAME=HOST" in capsys.readouterr().err


def test_an_unknown_identity_gets_no_certificate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["nobody", "--directory", str(tmp_path)])
    assert ended.value.code == 2
    assert "unknown identity: nobody" in capsys.readouterr().err
