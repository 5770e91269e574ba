"""The reference of variables is complete, `--help` prints it, and unknown variables are reported with the nearest."""

from __future__ import annotations

import os
from itertools import takewhile

import pytest
from pydantic_settings import BaseSettings

from chassis.lifecycle.settings import load
from chassis.lifecycle.variables import PROCESSES, Variable, parse_arguments, prefix_of, unknown_variables, variables
from console.settings import ConsoleSettings
from ops import security
from ops.errors import OpsError
from ops.security import OpsSettings
from services.groups.settings import GroupsSettings
from services.orders.settings import OrdersSettings
from services.payments.settings import PaymentsSettings
from simulators.psp.settings import Settings as ProviderSettings

ALL: tuple[type[BaseSettings], ...] = (
    OrdersSettings,
    GroupsSettings,
    PaymentsSettings,
    ProviderSettings,
    OpsSettings,
    ConsoleSettings,
)


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Removes our variables from the environment of the test run."""
    for name in [name for name in os.environ if name.startswith("GROUPBUY_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize("settings", ALL)
def test_the_reference_has_every_variable_with_its_meaning(settings: type[BaseSettings]) -> None:
    found = variables(settings)
    assert [one.name for one in found] == [f"{prefix_of(settings)}{name}".upper() for name in settings.model_fields]
    assert [one.name for one in found if not one.meaning or not one.values] == []


def test_the_processes_have_the_known_prefixes() -> None:
    assert [prefix_of(settings) for settings in ALL] == [f"GROUPBUY_{process}_" for process in PROCESSES]


def test_a_variable_has_its_unit_bounds_and_default() -> None:
    found = {one.name.removeprefix("GROUPBUY_PAYMENTS_"): one for one in variables(PaymentsSettings)}
    assert found["DRAIN_SECONDS"] == Variable(
        "GROUPBUY_PAYMENTS_DRAIN_SECONDS",
        "seconds, above 0, at most 600",
        "10",
        "Seconds in which calls in flight finish after SIGTERM; as many again for the processors.",
    )
    assert found["LISTEN"][1:] == ("host:port", "127.0.0.1:50053", "Address of the gRPC server.")
    assert found["ADVERTISE"][1:3] == ("host:port", "")
    assert found["LOG_LEVEL"].values == "one of debug, info, warning, error"
    assert found["INSECURE"][1:3] == ("true or false", "false")
    assert found["STRIPE_KEY"].values == "secret"
    assert found["TLS_CA"].values == "file"
    assert found["STATE_DIR"].values == "path"


def test_help_prints_the_reference_and_exits_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_arguments(OrdersSettings, "services.orders", ["--help"])
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "usage: python -m services.orders [--help]"
    block = list(takewhile(bool, lines[lines.index("GROUPBUY_ORDERS_MAX_STREAMS") :]))
    assert block[1:] == ["    number, at least 1; default 20000", "    Limit of open streams."]
    assert max(map(len, lines)) <= 100


def test_another_argument_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_arguments(OrdersSettings, "services.orders", ["--listen=h:1"])
    assert ended.value.code == 2
    assert "unrecognized arguments: --listen=h:1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("GROUPBUY_ORDERS_KAFAK", "GROUPBUY_ORDERS_KAFKA"),
        ("groupbuy_orders_sate_dir", "GROUPBUY_ORDERS_STATE_DIR"),
        ("GROUPBUY_ORDER_LISTEN", "GROUPBUY_ORDERS_LISTEN"),
        ("GROUPBUY_LISTEN", "GROUPBUY_ORDERS_LISTEN"),
        ("GROUPBUY_PAYMENT_STRIPE_KEY", "GROUPBUY_PAYMENTS_STRIPE_KEY"),
    ],
)
def test_an_unknown_variable_has_the_nearest_known_name(name: str, nearest: str) -> None:
    assert unknown_variables(OrdersSettings, {name: "x"}) == {name: nearest}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GROUPBUY_ORDERS_KAFKA", "h:1"),
        ("groupbuy_orders_kafka", "h:1"),
        ("GROUPBUY_PAYMENTS_UNKNOWN", "checked by that process"),
        ("GROUPBUY_OPS_KAFKA_USER", "ops"),
        ("GROUPBUYERS", "not ours"),
        # Kubernetes adds these for a service named groupbuy-orders.
        ("GROUPBUY_ORDERS_SERVICE_HOST", "10.0.0.1"),
        ("GROUPBUY_ORDERS_SERVICE_PORT_GRPC", "50051"),
        ("GROUPBUY_ORDERS_PORT", "tcp://10.0.0.1:50051"),
        ("GROUPBUY_ORDERS_PORT_50051_TCP_ADDR", "10.0.0.1"),
    ],
)
def test_known_variables_and_those_of_an_orchestrator_are_accepted(name: str, value: str) -> None:
    assert unknown_variables(OrdersSettings, {name: value}) == {}


def test_a_service_does_not_start_with_an_unknown_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GROUPBUY_GROUPS_INSECURE", "true")
    monkeypatch.setenv("GROUPBUY_GROUPS_KAFAK", "h:1")
    with pytest.raises(SystemExit) as ended:
        load(GroupsSettings)
    assert ended.value.code == 2
    message = "groups can't start: GROUPBUY_GROUPS_KAFAK is unknown: did you mean GROUPBUY_GROUPS_KAFKA?\n"
    assert capsys.readouterr().err == message


def test_the_command_line_does_not_connect_with_an_unknown_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUPBUY_OPS_KAFKA_USR", "ops")
    with pytest.raises(OpsError, match="GROUPBUY_OPS_KAFKA_USR is unknown: did you mean GROUPBUY_OPS_KAFKA_USER"):
        security.cluster("h:1")
