"""The command line: wrong arguments are one sentence and exit code 2."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ops.main import main


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["nope"], "No such command 'nope'"),
        (["tail"], "Missing argument 'topic'"),
        (["tail", "nope"], "no topic nope: `groupbuy-ops topics list` has them all"),
        (["show", "order", "x"], "'x' is not an order name; expected groups/<uuid>/orders/<uuid>"),
        (["show", "group", "groups/x"], "'groups/x' is not a group"),
        (["show", "group", "9F6C1C5E-0000-4000-8000-000000000001"], "is not a group"),
        (["dlq", "show", "orders.order.v2"], "no dead-letter topic orders.order.v2"),
        (["topics", "create", "--kafka", "x", "--partitions", "4"], "--kafka takes host:port"),
        (["topics", "create", "--partitions", "0"], "should be greater than or equal to 1"),
        (["audit", "--kafka", "127.0.0.1:1", "--provider", "there"], "--provider takes host:port"),
        (["demo", "--orders", "0"], "should be greater than or equal to 1"),
        (["demo", "--orders", "many"], "Invalid value"),
    ],
)
def test_a_wrong_argument_is_one_sentence_and_exit_2(
    args: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA", "127.0.0.1:1")
    assert main(args) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.startswith("groupbuy-ops: ")
    assert error.count("\n") == 1


def test_an_unreachable_broker_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "--kafka", "127.0.0.1:1", "--without-provider"]) == 2
    assert "no Kafka broker answers at 127.0.0.1:1" in capsys.readouterr().err


def test_topics_are_listed_without_a_broker(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["topics", "list"]) == 0
    listed = capsys.readouterr().out
    assert "payments.payment.v1" in listed
    assert "orders.order.v1.groups.dlq" in listed


def test_without_a_command_the_help_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    said = capsys.readouterr()
    assert "audit" in said.out
    assert said.err == ""


def test_help_exits_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "redrive" not in capsys.readouterr().err


def test_the_audit_is_independent_of_every_service() -> None:
    """A rule that service and audit share could be wrong in both."""
    seen = subprocess.run(
        [sys.executable, "-c", "import sys, ops.audit; print(*sorted(sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert "ops.audit.run" in seen
    assert [name for name in seen if name == "services" or name.startswith("services.")] == []
