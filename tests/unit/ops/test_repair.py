"""`groupbuy-ops repair` against the real OperatorService: what it records, prints and returns."""

from __future__ import annotations

import asyncio
import json
import shlex
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from groupbuy.payments.v1.decisions_pb2 import OPERATION_CAPTURE, PaymentDecision
from groupbuy.payments.v1.inbox_pb2 import ProviderOutcome
from groupbuy.payments.v1.operator_pb2_grpc import add_OperatorServiceServicer_to_server

from chassis.identity.authorizer import Authorizer
from chassis.rpc.server import Server, Servicer
from ops.errors import CANNOT_RUN, DOES_NOT_HOLD, OK
from ops.main import main
from ops.repair.findings import findings
from tests.scenarios.inputs import captured
from tests.unit.payments_api.operators import NAME, OperatorView, operators
from tests.unit.payments_api.service import ORDER, Inbox

SERVICE = "groupbuy.payments.v1.OperatorService"
PROPOSAL = "1b9f2d8e-7a43-4a53-9d0e-0c4a3b6f8e21"


class Payments:
    """The payments service in memory, served by a thread."""

    def __init__(self) -> None:
        self.view = OperatorView()
        self.inbox = Inbox(self.view)
        self.target = ""
        self._loop = asyncio.new_event_loop()
        self._started: Future[str] = Future()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve()))

    def __enter__(self) -> Payments:
        self._thread.start()
        self.target = self._started.result(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _serve(self) -> None:
        servicer = Servicer(add_OperatorServiceServicer_to_server, operators(self.view, self.inbox), SERVICE)
        server = Server(
            (servicer,), max_calls=10, max_streams=10, authorizer=Authorizer(None, everybody=True), files=None
        )
        port = server.bind("127.0.0.1:0")
        await server.start()
        self._started.set_result(f"127.0.0.1:{port}")
        await self._stop.wait()
        await server.drain(0.1)

    @property
    def events(self) -> list[Any]:
        """The events of the last decision."""
        return list(PaymentDecision.FromString(self.view.log[-1]).events)


@pytest.fixture
def payments(monkeypatch: pytest.MonkeyPatch) -> Iterator[Payments]:
    with Payments() as made:
        monkeypatch.setenv("PAYMENTS_AT", made.target)
        monkeypatch.setenv("GROUPBUY_OPS_OPERATOR", "alice")
        yield made


class Ran:
    """The end of a command: exit code and output."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def repair(capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: str) -> Ran:
        code = main(["repair", *arguments])
        printed = capsys.readouterr()
        return Ran(code, printed.out, printed.err)

    return run


def test_an_issue_is_listed_with_the_command_that_repairs_it(payments: Payments, repair: Any) -> None:
    payments.view.owe()
    listed = repair("list", "--json")
    assert listed.code == DOES_NOT_HOLD
    (issue,) = listed.records
    assert (issue["kind"], issue["amount_minor"], issue["payment"]) == ("owed", 100, NAME)
    command = shlex.split(issue["commands"][0])
    assert command[:2] == ["groupbuy-ops", "repair"]
    assert repair(*command[2:], "--json").code == OK
    assert payments.events[0].operator_acted.operator == "alice"
    assert payments.events[0].operator_acted.reason == "WHY"


def test_the_printed_commands_of_every_kind_are_accepted(payments: Payments, repair: Any) -> None:
    for prepare in ("owe", "stick"):
        getattr(payments.view, prepare)(ORDER if prepare == "owe" else ORDER.replace("6e2d", "0000"))
    payments.view.charge(ORDER.replace("6e2d", "1111"))
    payments.view.stray(ORDER.replace("6e2d", "1111"))
    payments.view.dispute(ORDER.replace("6e2d", "1111"))
    found = repair("list", "--json").records
    assert {one["kind"] for one in found} == {"owed", "call", "suspense", "dispute"}
    commands = [command for one in found for command in one["commands"]]
    assert len(commands) == 7
    for command in commands:
        ran = repair(*shlex.split(command)[2:], "--dry-run", "--json")
        assert ran.code == OK, (command, ran.err)
        assert ran.records[0]["events"][0]["event"] == "operator_acted"


def test_nothing_to_repair(payments: Payments, repair: Any) -> None:
    payments.view.charge()
    listed = repair("list")
    assert (listed.code, listed.out) == (OK, "nothing is owed, stuck, in suspense or in dispute\n")


def test_a_dry_run_appends_nothing(payments: Payments, repair: Any) -> None:
    payments.view.owe()
    before = len(payments.view.log)
    ran = repair("retry", NAME, "refund", "--reason", "open again", "--dry-run")
    assert ran.code == OK
    assert "refund_requested" in ran.out
    assert ran.out.endswith("nothing recorded: this was a dry run\n")
    assert (payments.inbox.records, len(payments.view.log)) == ([], before)


def test_a_dry_run_of_what_the_rules_refuse_exits_with_1(payments: Payments, repair: Any) -> None:
    payments.view.charge()
    ran = repair("retry", NAME, "refund", "--reason", "why not", "--dry-run", "--json")
    assert ran.code == DOES_NOT_HOLD
    assert ran.records[0]["refusal"]


def test_a_refusal_is_one_sentence_and_exit_code_1(payments: Payments, repair: Any) -> None:
    payments.view.charge()
    ran = repair("retry", NAME, "refund", "--reason", "why not")
    assert (ran.code, ran.out) == (DOES_NOT_HOLD, "")
    assert ran.err.startswith("groupbuy-ops: REPAIR_REFUSED: ")
    assert ran.err.count("\n") == 1


def test_a_stale_version_exits_with_1(payments: Payments, repair: Any) -> None:
    payments.view.owe()
    ran = repair("retry", NAME, "refund", "--reason", "why not", "--expected-version", "1")
    assert ran.code == DOES_NOT_HOLD
    assert "VERSION_MISMATCH" in ran.err


@pytest.mark.parametrize(
    "arguments",
    [
        (NAME, "refund", "--reason", " "),
        (NAME, "charge", "--reason", "x"),
        (NAME, "refund", "--reason", "x", "--request-id", "1"),
        (NAME.removesuffix("/payment"), "refund", "--reason", "x"),
        (NAME.replace("6e2d", "0000"), "refund", "--reason", "x"),
        (NAME, "refund", "--reason", "x", "--payments", "nowhere"),
    ],
)
def test_what_cannot_run_exits_with_2(payments: Payments, repair: Any, arguments: tuple[str, ...]) -> None:
    payments.view.owe()
    ran = repair("retry", *arguments, "--json")
    assert (ran.code, ran.out) == (CANNOT_RUN, "")
    assert ran.err.startswith("groupbuy-ops: ")
    assert payments.inbox.records == []


def test_without_a_service_it_cannot_run(repair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUPBUY_OPS_TIMEOUT_SECONDS", "0.2")
    ran = repair("list", "--payments", "127.0.0.1:1")
    assert ran.code == CANNOT_RUN
    assert "no payments service answers at 127.0.0.1:1" in ran.err


def test_a_request_id_makes_a_repeated_command_harmless(payments: Payments, repair: Any) -> None:
    payments.view.owe()
    arguments = ("retry", NAME, "refund", "--reason", "open again", "--request-id", PROPOSAL, "--json")
    assert repair(*arguments).records == repair(*arguments).records
    assert len(payments.inbox.records) == 1


def test_two_persons_adjust_the_ledger(payments: Payments, repair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    payments.view.charge()
    accounts = ("--from", "clearing", "--to", "adjustments", "--amount-minor", "5", "--currency", "CNY")
    assert repair("adjust", NAME, *accounts, "--reason", "rounding", "--request-id", PROPOSAL).code == OK
    own = repair("approve-adjustment", NAME, PROPOSAL, "--reason", "checked")
    assert own.code == CANNOT_RUN
    assert "SECOND_OPERATOR_REQUIRED" in own.err
    (issue,) = repair("list", "--kind", "adjustment", "--json").records
    monkeypatch.setenv("GROUPBUY_OPS_OPERATOR", "bob")
    assert repair(*shlex.split(issue["commands"][0])[2:]).code == OK
    assert payments.events[1].ledger_adjusted.amount_minor == 5


async def test_a_finding_of_a_statement_names_its_operator(payments: Payments) -> None:
    payments.view.charge()
    outcome = ProviderOutcome(
        order=ORDER, operation=OPERATION_CAPTURE, payment_method="simulated_", **captured("found", 30)
    )
    async with findings(payments.target, "statement of May") as send:
        await send(NAME.split("/")[1], outcome)
    fed = payments.inbox.records[0][1].outcome
    assert (fed.operator, fed.reason, fed.captured.hold) == ("alice", "statement of May", "found")
    assert payments.events[0].HasField("suspense_recorded")
