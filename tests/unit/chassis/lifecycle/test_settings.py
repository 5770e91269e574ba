"""Settings come from the environment; an invalid one is named, and the process ends with code 2."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from chassis.lifecycle.connection import connection_of
from chassis.lifecycle.settings import ServiceSettings, host_and_port, load
from eventlog.broker.security import Cluster
from eventlog.processors.sequencer import Sequencer
from services.groups.settings import GroupsSettings
from services.orders.settings import OrdersSettings
from services.payments.settings import PaymentsSettings
from shared_kernel.topics import GROUP_INBOX as TOPIC


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
        ("SESSION_SECONDS", "5", "greater than or equal to 6"),
        ("SESSION_SECONDS", "31", "less than or equal to 30"),
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


async def test_the_session_time_out_reaches_the_consumer_groups(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GROUPBUY_GROUPS_SESSION_SECONDS", "30")
    monkeypatch.setenv("GROUPBUY_GROUPS_STATE_DIR", str(tmp_path))
    connection, _ = connection_of(load(GroupsSettings))
    assert connection.session_s == 30
    sequencer = Sequencer("a.w.r", [TOPIC], TOPIC, SimpleNamespace(), connection)
    assert sequencer.app.conf.broker_session_timeout == 30
    # Faust refuses a session that is longer than a request.
    assert sequencer.app.conf.broker_request_timeout >= 30


@pytest.fixture
def secured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Settings of orders with SASL and no password. Returns the file for the password, which is missing."""
    (tmp_path / "ca.crt").touch()
    for name, value in {
        "KAFKA_SECURITY": "SASL_SSL",
        "KAFKA_USER": "orders",
        "KAFKA_CA": str(tmp_path / "ca.crt"),
        "KAFKA_PASSWORD_FILE": str(tmp_path / "password"),
    }.items():
        monkeypatch.setenv(f"GROUPBUY_ORDERS_{name}", value)
    return tmp_path / "password"


@pytest.mark.parametrize("text", ["a b\n", "a b"])
def test_the_password_may_be_in_a_file(secured: Path, text: str) -> None:
    secured.write_text(text)
    brokers = load(OrdersSettings).brokers
    assert isinstance(brokers, Cluster)
    assert (brokers.security.user, brokers.security.password) == ("orders", "a b")


@pytest.mark.parametrize(
    ("text", "password", "why"),
    [
        (None, "", "GROUPBUY_ORDERS_KAFKA_PASSWORD_FILE is"),
        ("\n", "", "the file is empty"),
        ("a", "b", "GROUPBUY_ORDERS_KAFKA_PASSWORD and GROUPBUY_ORDERS_KAFKA_PASSWORD_FILE are both set: set one"),
    ],
)
def test_a_password_file_that_can_not_be_used_is_named(
    secured: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    text: str | None,
    password: str,
    why: str,
) -> None:
    if text is not None:
        secured.write_text(text)
    monkeypatch.setenv("GROUPBUY_ORDERS_KAFKA_PASSWORD", password)
    with pytest.raises(SystemExit) as ended:
        load(OrdersSettings)
    assert ended.value.code == 2
    assert why in capsys.readouterr().err
