"""The launcher of workers: its arguments, the counts that it refuses, and the settings of each worker."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chassis.lifecycle import workers
from chassis.lifecycle.workers import Asked, parse, shell_code, uneven, variables_of
from services.groups.settings import GroupsSettings
from services.payments.settings import PaymentsSettings


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Removes our variables from the environment of the test run."""
    for name in [name for name in os.environ if name.startswith("GROUPBUY_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        ([], None),
        (["--workers", "4"], Asked(4, 1)),
        (["--workers=2", "--hosts=8"], Asked(2, 8)),
    ],
)
def test_arguments(arguments: list[str], asked: Asked | None) -> None:
    assert parse(GroupsSettings, "services.groups", arguments) == asked


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers", "0"], "take 1 to"),
        (["--workers", "two"], "invalid int value"),
        (["--hosts", "2"], "--hosts needs --workers"),
        (["--workers", "2", "--listen=h:1"], "unrecognized arguments: --listen=h:1"),
    ],
)
def test_a_wrong_argument_ends_with_2(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(GroupsSettings, "services.groups", arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_help_has_the_options_and_the_variables(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(GroupsSettings, "services.groups", ["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "GROUPBUY_GROUPS_LISTEN" in text
    assert "--workers N" in text
    assert f"ports that are {workers.PORT_STEP} higher" in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 100


def test_a_count_has_to_divide_the_partitions() -> None:
    for count in (1, 2, 4, 8, 16, 32, 64):
        assert uneven(Asked(count, 1), 64) == ""
    assert uneven(Asked(4, 16), 64) == ""
    assert uneven(Asked(3, 1), 64) == (
        "3 workers do not divide 64 partitions: some would own more than others, and the fullest one is the limit; "
        "use 1, 2, 4, 8, 16, 32, 64"
    )
    assert uneven(Asked(4, 8), 16) == (
        "4 workers on each of 8 hosts do not divide 16 partitions: some would own more than others, and the fullest "
        "one is the limit; use 1, 2"
    )
    assert uneven(Asked(1, 3), 64).endswith("use another number of hosts")


def test_workers_share_no_name_address_or_state() -> None:
    settings = PaymentsSettings(
        insecure=True,
        instance="host1",
        listen="0.0.0.0:50053",
        advertise="host1.example:50053",
        metrics_listen="0.0.0.0:9403",
        webhook_listen="0.0.0.0:8080",
        state_dir=Path("/state"),
    )
    first, third = variables_of(settings, 0), variables_of(settings, 2)
    assert first == {
        "GROUPBUY_PAYMENTS_INSTANCE": "host1-0",
        "GROUPBUY_PAYMENTS_STATE_DIR": "/state/0",
        "GROUPBUY_PAYMENTS_LISTEN": "0.0.0.0:50053",
        "GROUPBUY_PAYMENTS_ADVERTISE": "host1.example:50053",
        "GROUPBUY_PAYMENTS_METRICS_LISTEN": "0.0.0.0:9403",
    }
    assert third == {
        "GROUPBUY_PAYMENTS_INSTANCE": "host1-2",
        "GROUPBUY_PAYMENTS_STATE_DIR": "/state/2",
        "GROUPBUY_PAYMENTS_LISTEN": "0.0.0.0:50073",
        "GROUPBUY_PAYMENTS_ADVERTISE": "host1.example:50073",
        "GROUPBUY_PAYMENTS_METRICS_LISTEN": "0.0.0.0:9423",
        "GROUPBUY_PAYMENTS_WEBHOOK_LISTEN": "",
    }


def test_workers_of_all_services_fit_on_one_host() -> None:
    ports = {
        variables_of(settings(insecure=True), number)[settings.variable("listen")]
        for settings in (GroupsSettings, PaymentsSettings)
        for number in range(10)
    }
    assert len(ports) == 20


def test_a_signal_counts_as_in_a_shell() -> None:
    assert [shell_code(code) for code in (0, 2, 70, -9, -15)] == [0, 2, 70, 137, 143]
