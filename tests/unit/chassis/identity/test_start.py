"""A process that is neither encrypted nor told to be open does not start, nor one whose table is not about it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from groupbuy.orders.v1 import orders_pb2_grpc

from chassis.identity.policy import FILE, PolicyError, read
from chassis.lifecycle.runner import ServiceSpec, run
from chassis.lifecycle.settings import load
from chassis.rpc.server import Servicer
from devstack.certificates.ca import Authority, Issued
from eventlog.broker.security import Cluster, client
from services.orders.settings import OrdersSettings
from services.payments.settings import PaymentsSettings
from tests.unit.chassis.fake_orders import ORDERS, FakeOrders

PASSWORD = "correct horse battery staple"
NEEDED = ("TLS_CERTIFICATE", "TLS_KEY", "TLS_CA", "KAFKA_USER", "KAFKA_PASSWORD", "KAFKA_CA")


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the environment of the test run says."""
    for name in [name for name in os.environ if name.startswith("GROUPBUY_")]:
        monkeypatch.delenv(name)
    # That of the test run stays as it is.
    monkeypatch.setattr("chassis.telemetry.logging.configure", lambda **_: None)


@pytest.fixture
def encrypted(certificates: dict[str, Issued], monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    """All that a process needs to start, as environment."""
    mine = certificates["orders"]
    told = {
        "TLS_CERTIFICATE": str(mine.certificate),
        "TLS_KEY": str(mine.key),
        "TLS_CA": str(mine.ca),
        "KAFKA_USER": "orders",
        "KAFKA_PASSWORD": PASSWORD,
        "KAFKA_CA": str(mine.ca),
    }
    for name, value in told.items():
        monkeypatch.setenv(f"GROUPBUY_ORDERS_{name}", value)
    return told


def last_words(capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        load(OrdersSettings)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_without_certificates_and_without_saying_so_nothing_starts(capsys: pytest.CaptureFixture[str]) -> None:
    said = last_words(capsys)
    for name in NEEDED:
        assert f"GROUPBUY_ORDERS_{name}" in said
    assert "GROUPBUY_ORDERS_INSECURE=true" in said


@pytest.mark.parametrize("missing", NEEDED)
def test_one_that_is_missing_is_named(
    encrypted: Mapping[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    monkeypatch.delenv(f"GROUPBUY_ORDERS_{missing}")
    said = last_words(capsys)
    assert said.startswith(f"orders can't start: GROUPBUY_ORDERS_{missing} is not set; encrypted connections need it")
    assert PASSWORD not in said


def test_all_of_it_reaches_the_clients_of_kafka_and_the_password_no_text(encrypted: Mapping[str, str]) -> None:
    settings = load(OrdersSettings)
    assert isinstance(settings.brokers, Cluster)
    made = client(settings.brokers)
    assert (made["security_protocol"], made["sasl_mechanism"]) == ("SASL_SSL", "SCRAM-SHA-512")
    assert (made["sasl_plain_username"], made["sasl_plain_password"]) == ("orders", PASSWORD)
    assert PASSWORD not in f"{settings!r} {settings.brokers!r} {settings.brokers}"


def test_a_stack_on_one_machine_says_that_it_is_insecure() -> None:
    settings = load(OrdersSettings, insecure=True)
    assert client(settings.brokers) == {"bootstrap_servers": "127.0.0.1:9092"}
    assert client(load(PaymentsSettings, insecure=True, kafka="a:1,b:2").brokers) == {"bootstrap_servers": "a:1,b:2"}


def test_kafka_may_be_encrypted_where_calls_are_not(encrypted: Mapping[str, str]) -> None:
    settings = load(OrdersSettings, insecure=True, kafka_security="sasl_ssl")
    assert isinstance(settings.brokers, Cluster)


def started(tmp_path: Path, **settings: Any) -> int:
    """Runs a process up to where it would listen; its exit code."""
    nothing: Any = None
    servicer = Servicer(orders_pb2_grpc.add_OrderServiceServicer_to_server, FakeOrders(), ORDERS)
    wiring = ServiceSpec([servicer], nothing, nothing, ())
    return run(load(OrdersSettings, state_dir=tmp_path, **settings), lambda _: wiring)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('GetOrder         = ["shop", "support", "operator", "replicas"]\n', "", "the policy lacks /groupbuy"),
        ("CancelOrder  ", "CancelOrders ", "the policy lacks /groupbuy.orders.v1.OrderService/CancelOrder"),
        ("WatchOrder  ", 'Refund = ["shop"]\nWatchOrder  ', "which this process does not serve"),
        ('GetSocket        = ["operator"]\n', "", "the policy lacks /grpc.channelz.v1.Channelz/GetSocket"),
        ('["shop", "support", "replicas"]', '["shopp"]', "unknown identity: shopp"),
        ("[limits]", "[limits", "can't be read"),
        ("burst = 200 }", "burst = 0 }", "limits.default.burst"),
        ("default  =", "webhooks2 =", "limits.default is missing"),
        ("client/merchant", "client/shop", "two identities have the same SPIFFE id"),
        ("merchant = ", "anyone = ", "anyone can't be the name of an identity"),
        ("spiffe://groupbuy.internal/client/shop", "shop", "identities.shop"),
    ],
)
def test_a_table_that_is_not_about_the_process_stops_its_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, why: str
) -> None:
    text = FILE.read_text(encoding="utf-8")
    assert old in text
    policy = tmp_path / "policy.toml"
    policy.write_text(text.replace(old, new, 1), encoding="utf-8")
    # Also where all is insecure: a table that doesn't fit is found before it matters.
    assert started(tmp_path, insecure=True, policy=policy) == 2
    said = capsys.readouterr().err
    assert said.startswith("orders can't start: ")
    assert why in said
    assert "(GROUPBUY_ORDERS_POLICY)" in said


def test_a_key_of_another_certificate_stops_the_start(
    encrypted: Mapping[str, str], certificates: dict[str, Issued], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert started(tmp_path, tls_key=certificates["shop"].key) == 2
    said = capsys.readouterr().err
    assert "is not the key of" in said
    assert "(GROUPBUY_ORDERS_TLS_CERTIFICATE)" in said


def test_a_certificate_of_another_identity_or_without_its_name_stops_the_start(
    encrypted: Mapping[str, str],
    authority: Authority,
    certificates: dict[str, Issued],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shop = certificates["shop"]
    assert started(tmp_path, tls_certificate=shop.certificate, tls_key=shop.key) == 2
    assert "which the policy does not name orders" in capsys.readouterr().err
    # As another authority might issue it, for hosts alone.
    bare = authority.issue("bare_orders", "spiffe://groupbuy.internal/service/orders", hosts=("localhost",), own=False)
    assert started(tmp_path, tls_certificate=bare.certificate, tls_key=bare.key) == 2
    assert "lacks the DNS name orders.service.groupbuy.internal" in capsys.readouterr().err


def test_an_authority_for_kafka_that_can_not_be_read_stops_the_start(
    encrypted: Mapping[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("no certificate")
    assert started(tmp_path, kafka_ca=garbage) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"orders can't start: {garbage} has no usable authority: ")
    assert "(GROUPBUY_ORDERS_KAFKA_CA)" in said


def test_a_file_that_is_not_there_is_no_table() -> None:
    with pytest.raises(PolicyError, match="can't be read"):
        read(Path("/nowhere/policy.toml"), "orders")
