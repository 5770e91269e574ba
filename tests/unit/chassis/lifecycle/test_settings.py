"""Settings come from the environment; an invalid one is named, and the process ends with code 2."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chassis.lifecycle.settings import ServiceSettings, host_and_port, load
from services.groups.settings import GroupsSettings
from services.orders.settings import OrdersSettings
from services.payments.settings import PaymentsSettings


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Removes our variables from the environment of the test run."""
    for name in [name for name in os.environ if name.startswith("GROUPBUY_")]:
        monkeypatch.delenv(name)
    for service in ("ORDERS", "GROUPS", "PAYMENTS"):
        monkeypatch.setenv(f"GROUPBUY_{service}_INSECURE", "true")


@pytest.mark.parametrize(
    ("settings", "service", "port"),
    [(OrdersSettings, "orders", 50051), (GroupsSettings, "groups", 50052), (PaymentsSettings, "payments", 50053)],
)
def test_each_service_has_its_own_defaults(settings: type[ServiceSettings], service: str, port: int) -> None:
    made = load(settings)
    assert made.service == service
    assert made.kafka == "127.0.0.1:9092"
    assert made.listen == f"127.0.0.1:{port}"
    assert made.state_dir == Path(f".run/state/{service}")
    assert made.instance == f"{service}-0"
    assert (made.log_level, made.log_format, made.drain_seconds) == ("info", "json", 10.0)
    assert (made.standbys, made.warm_seconds) == (1, 900.0)


def test_variables_carry_the_name_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUPBUY_PAYMENTS_KAFKA", "a:1, [::1]:2")
    monkeypatch.setenv("GROUPBUY_PAYMENTS_PROVIDER", "provider:7000")
    monkeypatch.setenv("GROUPBUY_PAYMENTS_LOG_LEVEL", "DEBUG")
    monkeypatch.setenv("GROUPBUY_ORDERS_INSTANCE", "orders-3")
    payments = load(PaymentsSettings)
    assert payments.kafka == "a:1,[::1]:2"
    assert payments.provider == "provider:7000"
    assert payments.log_level == "debug"
    assert load(OrdersSettings).instance == "orders-3"


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("KAFKA", "broker", "must be host:port, several separated by commas"),
        ("KAFKA", "a:1,,b:2", "must be host:port"),
        ("KAFKA", "", "must be host:port"),
        ("LISTEN", "127.0.0.1:70000", "must be host:port"),
        ("DRAIN_SECONDS", "soon", "number"),
        ("DRAIN_SECONDS", "-1", "greater than 0"),
        ("STANDBYS", "-1", "greater than or equal to 0"),
        ("WARM_SECONDS", "long", "number"),
        ("LOG_FORMAT", "xml", "'json' or 'console'"),
        ("INSTANCE", "a b", "match pattern"),
    ],
)
def test_an_invalid_value_is_named_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str, why: str
) -> None:
    monkeypatch.setenv(f"GROUPBUY_GROUPS_{name}", value)
    with pytest.raises(SystemExit) as ended:
        load(GroupsSettings)
    assert ended.value.code == 2
    error_output = capsys.readouterr().err
    assert error_output.startswith(f"groups can't start: GROUPBUY_GROUPS_{name} is {value!r}: ")
    assert why in error_output
    assert error_output.count("\n") == 1


def test_all_invalid_values_are_named_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GROUPBUY_ORDERS_KAFKA", "x")
    monkeypatch.setenv("GROUPBUY_ORDERS_LOG_LEVEL", "loud")
    with pytest.raises(SystemExit):
        load(OrdersSettings)
    error_output = capsys.readouterr().err
    assert "GROUPBUY_ORDERS_KAFKA" in error_output
    assert "GROUPBUY_ORDERS_LOG_LEVEL" in error_output


def test_overrides_take_precedence_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUPBUY_ORDERS_KAFKA", "a:1")
    assert load(OrdersSettings, kafka="b:2").kafka == "b:2"


def test_an_address_has_a_host_and_a_port() -> None:
    assert host_and_port("[::1]:80") == ("::1", 80)
    assert host_and_port("broker-1.example:9092") == ("broker-1.example", 9092)
