"""A process does not start without certificates unless it is insecure, nor with a policy that does not fit it."""

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
    """Removes our variables from the environment of the test run."""
    for name in [name for name in os.environ if name.startswith("GROUPBUY_")]:
        monkeypatch.delenv(name)
    # The umask of the test run stays as it is.
    monkeypatch.setattr("chassis.telemetry.logging.configure", lambda **_: None)


@pytest.fixture
def encrypted(certificates: dict[str, Issued], monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    """The environment of a process that starts."""
    mine = certificates["orders"]
    environment = {
        "TLS_CERTIFICATE": str(mine.certificate),
        "TLS_KEY": str(mine.key),
        "TLS_CA": str(mine.ca),
        "KAFKA_USER": "orders",
        "KAFKA_PASSWORD": PASSWORD,
        "KAFKA_CA": str(mine.ca),
    }
    for name, value in environment.items():
        monkeypatch.setenv(f"GROUPBUY_ORDERS_{name}", value)
    return environment


def error_of_load(capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        load(OrdersSettings)
    assert ended.value.code == 2
    error_output = capsys.readouterr().err
    assert error_output.count("\n") == 1
    return error_output


def test_a_process_without_certificates_that_is_not_insecure_does_not_start(capsys: pytest.CaptureFixture[str]) -> None:
    error_output = error_of_load(capsys)
    for name in NEEDED:
        assert f"GROUPBUY_ORDERS_{name}" in error_output
    assert "GROUPBUY_ORDERS_INSECURE=true" in error_output


@pytest.mark.parametrize("missing", NEEDED)
def test_a_missing_setting_is_named(
    encrypted: Mapping[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    monkeypatch.delenv(f"GROUPBUY_ORDERS_{missing}")
    error_output = error_of_load(capsys)
    assert error_output.startswith(
        f"orders can't start: GROUPBUY_ORDERS_{missing} is not set; encrypted connections need it"
    )
    assert PASSWORD not in error_output


def test_settings_reach_kafka_clients_and_the_password_is_not_shown(encrypted: Mapping[str, str]) -> None:
    settings = load(OrdersSettings)
    assert isinstance(settings.brokers, Cluster)
    made = client(settings.brokers)
    assert (made["security_protocol"], made["sasl_mechanism"]) == ("SASL_SSL", "SCRAM-SHA-512")
    assert (made["sasl_plain_username"], made["sasl_plain_password"]) == ("orders", PASSWORD)
    assert PASSWORD not in f"{settings!r} {settings.brokers!r} {settings.brokers}"


def test_an_insecure_process_needs_no_certificates() -> None:
    settings = load(OrdersSettings, insecure=True)
    assert client(settings.brokers) == {"bootstrap_servers": "127.0.0.1:9092"}
    assert client(load(PaymentsSettings, insecure=True, kafka="a:1,b:2").brokers) == {"bootstrap_servers": "a:1,b:2"}


def test_kafka_may_be_encrypted_with_insecure_calls(encrypted: Mapping[str, str]) -> None:
    settings = load(OrdersSettings, insecure=True, kafka_security="sasl_ssl")
    assert isinstance(settings.brokers, Cluster)


def started(tmp_path: Path, **settings: Any) -> int:
    """Runs a process until it would listen; returns its exit code."""
    nothing: Any = None
    servicer = Servicer(orders_pb2_grpc.add_OrderServiceServicer_to_server, FakeOrders(), ORDERS)
    spec = ServiceSpec([servicer], nothing, nothing, ())
    return run(load(OrdersSettings, state_dir=tmp_path, **settings), lambda _: spec)


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
def test_a_policy_that_does_not_fit_the_process_stops_the_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, why: str
) -> None:
    text = FILE.read_text(encoding="utf-8")
    assert old in text
    policy = tmp_path / "policy.toml"
    policy.write_text(text.replace(old, new, 1), encoding="utf-8")
    # An insecure process checks its policy too, so that an error is found early.
    assert started(tmp_path, insecure=True, policy=policy) == 2
    error_output = capsys.readouterr().err
    assert error_output.startswith("orders can't start: ")
    assert why in error_output
    assert "(GROUPBUY_ORDERS_POLICY)" in error_output


def test_a_key_of_another_certificate_stops_the_start(
    encrypted: Mapping[str, str], certificates: dict[str, Issued], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert started(tmp_path, tls_key=certificates["shop"].key) == 2
    error_output = capsys.readouterr().err
    assert "is not the key of" in error_output
    assert "(GROUPBUY_ORDERS_TLS_CERTIFICATE)" in error_output


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
    # As another authority might issue it, with host names only.
    bare = authority.issue("bare_orders", "spiffe://groupbuy.internal/service/orders", hosts=("localhost",), own=False)
    assert started(tmp_path, tls_certificate=bare.certificate, tls_key=bare.key) == 2
    assert "lacks the DNS name orders.service.groupbuy.internal" in capsys.readouterr().err


def test_an_unreadable_authority_for_kafka_stops_the_start(
    encrypted: Mapping[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("no certificate")
    assert started(tmp_path, kafka_ca=garbage) == 2
    error_output = capsys.readouterr().err
    assert error_output.startswith(f"orders can't start: {garbage} has no usable authority: ")
    assert "(GROUPBUY_ORDERS_KAFKA_CA)" in error_output


def test_a_missing_policy_file_is_an_error() -> None:
    with pytest.raises(PolicyError, match="can't be read"):
        read(Path("/nowhere/policy.toml"), "orders")
