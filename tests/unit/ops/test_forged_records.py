"""Records with forged texts, through every command that prints records, for people and as JSON.

Method: the commands run as they are, on topics in memory.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from groupbuy.groups.v1 import decisions_pb2 as g
from groupbuy.groups.v1.campaigns_pb2 import Campaign
from groupbuy.groups.v1.inbox_pb2 import GroupInput
from groupbuy.links.v1.links_pb2 import Invitation
from groupbuy.orders.v1.facts_pb2 import OrderCancelRequested, OrderFact, OrderPlaced
from groupbuy.payments.v1 import decisions_pb2 as p
from groupbuy.payments.v1.inbox_pb2 import PaymentInput, ProviderOutcome
from groupbuy.registry.v1.registry_pb2 import Declared, RegistryRecord

from ops.errors import CANNOT_RUN, DOES_NOT_HOLD, OK
from ops.main import main
from shared_kernel.log_registry import DECLARED
from shared_kernel.topics import ALL as TOPICS
from shared_kernel.topics import CAMPAIGNS, GROUP_INBOX, GROUP_LOG, ORDERS, PAYMENT_INBOX, PAYMENT_LOG, REGISTRY
from tests.unit.ops.hostile import ALL, forged, unsafe
from tests.unit.ops.memory_broker import MemoryBroker

GROUP = "5d7c9f3e-0000-4000-8000-000000000001"
ORDER = "5d7c9f3e-0000-4000-8000-000000000002"
NAME = f"groups/{GROUP}"
DEAD = "orders.order.v1.groups.dlq"
GARBAGE = b"\xff\x1b[2J\r\nno alarm: all is well"
#: The markup of the forged texts, which is printed as it is.
MARKUP = "[bold red]violation[/]"
KAFKA = "127.0.0.1:9092"


def decisions() -> list[tuple[str, bytes]]:
    placed = OrderPlaced(quantity=1, currency="CNY", max_unit_price_minor=5, payment_method=ALL)
    fact = OrderFact(order=ORDER, group=GROUP, customer=ALL, placed=placed)
    cancel = OrderFact(order=ORDER, group=GROUP, customer=ALL, cancel_requested=OrderCancelRequested(request_id=ALL))
    invitation = Invitation(link_id=ALL, inviter=ALL, parent_link_id=f"{ALL}2", depth=2)
    group_events = [
        g.GroupEvent(
            opened=g.GroupOpened(
                leader_order=ORDER, leader_customer=ALL, terms=g.Terms(campaign=ALL, currency=ALL, capacity=2)
            )
        ),
        g.GroupEvent(
            seat_reserved=g.SeatReserved(order=ORDER, customer=ALL, quantity=1, currency=ALL, invitation=invitation)
        ),
        g.GroupEvent(cancelled=g.GroupCancelled(reason=ALL)),
        g.GroupEvent(faulted=g.Faulted(error=ALL)),
    ]
    payment_events = [
        p.PaymentEvent(hold_declined=p.HoldDeclined(order=ORDER, reason=ALL)),
        p.PaymentEvent(action_required=p.ActionRequired(order=ORDER, action_url=ALL)),
        p.PaymentEvent(suspense_recorded=p.SuspenseRecorded(order=ORDER, hold=ALL, reason=ALL, currency=ALL)),
    ]
    outcome = ProviderOutcome(order=ALL, payment_method=ALL)
    outcome.declined.reason = ALL
    return [
        (ORDERS.name, fact.SerializeToString()),
        (ORDERS.name, cancel.SerializeToString()),
        (GROUP_INBOX.name, GroupInput(order_fact=fact.SerializeToString()).SerializeToString()),
        (GROUP_LOG.name, g.GroupDecision(group=GROUP, version=1, events=group_events).SerializeToString()),
        (PAYMENT_INBOX.name, PaymentInput(outcome=outcome).SerializeToString()),
        (PAYMENT_LOG.name, p.PaymentDecision(group=GROUP, version=1, events=payment_events).SerializeToString()),
    ]


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> MemoryBroker:
    """Topics with forged texts, and after `garble` with undecodable records too."""
    made = MemoryBroker(spec.name for spec in TOPICS)
    declared = RegistryRecord(declared=Declared(partitions=1, cluster_id=ALL), who=ALL)
    made.append(REGISTRY.name, DECLARED.encode(), declared.SerializeToString())
    hostile = [(ALL, ALL.encode()), ("ce_subject", ALL.encode())]
    for topic, value in decisions():
        made.append(topic, GROUP.encode(), value, hostile)
    made.append(CAMPAIGNS.name, b"mug", Campaign(name="campaigns/mug", product=ALL).SerializeToString(), hostile)
    letter = [*hostile, ("dlq-error", ALL.encode()), ("dlq-origin-offset", b"0"), ("dlq-cut", ALL.encode())]
    made.append(DEAD, ALL.encode(), GARBAGE, letter)
    made.install(monkeypatch)
    return made


def garble(broker: MemoryBroker) -> None:
    for spec in TOPICS:
        broker.append(spec.name, ALL.encode(), GARBAGE, [(ALL, GARBAGE)])
        broker.append(spec.name, GARBAGE, None)


def played(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The output of a command, for people and as JSON, after the checks that hold for each."""
    capsys.readouterr()
    screens = []
    for options in ([], ["--json"]):
        code = main([*arguments, *options, "--kafka", KAFKA])
        out, err = capsys.readouterr()
        assert code in {OK, DOES_NOT_HOLD, CANNOT_RUN}, err
        for screen in (out, err):
            assert not unsafe(screen)
            assert not forged(screen)
            assert "Traceback" not in screen
        screens.append(out + err)
        if options:
            for line in out.splitlines():
                assert isinstance(json.loads(line), dict)
    return screens[0]


PRINTING = [
    *(["tail", spec.name, "--from-beginning", "--no-follow"] for spec in TOPICS),
    ["show", "group", NAME],
    ["show", "order", f"{NAME}/orders/{ORDER}"],
    ["invites", NAME],
    ["dlq", "show", "orders.order.v1"],
    ["skip", ORDERS.name, "0", "0", "--reason", ALL, "--dry-run"],
    ["campaigns", "restore", "campaigns/mug", "--dry-run"],
    ["trace", NAME],
    ["verify"],
    ["audit", "--without-provider"],
    ["replay"],
    ["what-if"],
    ["ledger", "balances"],
]


@pytest.mark.parametrize("arguments", PRINTING, ids=lambda one: " ".join(one[:3]))
def test_a_command_escapes_forged_texts(
    arguments: list[str], broker: MemoryBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    played(arguments, capsys)
    garble(broker)
    played(arguments, capsys)


@pytest.mark.parametrize(
    "arguments",
    [
        ["tail", ORDERS.name, "--from-beginning", "--no-follow"],
        ["tail", GROUP_LOG.name, "--from-beginning", "--no-follow"],
        ["tail", PAYMENT_LOG.name, "--from-beginning", "--no-follow"],
        ["show", "group", NAME],
        ["show", "order", f"{NAME}/orders/{ORDER}"],
        ["invites", NAME],
        ["dlq", "show", "orders.order.v1"],
        ["campaigns", "restore", "campaigns/mug", "--dry-run"],
    ],
    ids=lambda one: " ".join(one[:3]),
)
def test_markup_is_printed_as_text(
    arguments: list[str], broker: MemoryBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    assert broker.records
    assert MARKUP in played(arguments, capsys)


def test_the_reconciliation_escapes_a_statement_file(
    broker: MemoryBroker, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert broker.records
    file = tmp_path / "statement.csv"
    header = "hold,order,group,currency,authorised_minor,captured_minor,released_minor,refunded_minor,open_minor"
    file.write_text(f'{header}\n"{ALL}",x,y,CNY,5,0,0,0,5\n', encoding="utf-8", newline="")
    played(["reconcile", "--statement", str(file), "--wait", "0"], capsys)


def test_empty_results_are_said_on_standard_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = MemoryBroker(spec.name for spec in TOPICS)
    made.append(REGISTRY.name, DECLARED.encode(), RegistryRecord(declared=Declared(partitions=1)).SerializeToString())
    made.install(monkeypatch)
    for arguments, said in (
        (["tail", ORDERS.name, "--no-follow"], "no records in orders.order.v1"),
        (["tail", ORDERS.name, "--no-follow", "--key", "x"], "no records in orders.order.v1 of x"),
        (["dlq", "show", "orders.order.v1"], f"no dead letters in {DEAD}"),
        (["ledger", "balances"], "no entries in payments.payment.v1"),
        (["what-if"], "no groups in the inbox"),
    ):
        for options in ([], ["--json"]):
            assert main([*arguments, *options, "--kafka", KAFKA]) == OK
            assert capsys.readouterr().err.startswith(said)


def test_an_unknown_resource_exits_with_2(broker: MemoryBroker, capsys: pytest.CaptureFixture[str]) -> None:
    other = "5d7c9f3e-0000-4000-8000-00000000ffff"
    for arguments, said in (
        (["show", "group", f"groups/{other}"], f"group not found: the topics at {KAFKA} have no record of groups/"),
        (["show", "order", f"{NAME}/orders/{other}"], "order not found"),
        (["invites", f"groups/{other}"], "group not found"),
        (["trace", f"groups/{other}"], ""),
        (["skip", ORDERS.name, "0", "99", "--reason", "x"], "none at 99"),
        (["campaigns", "restore", "campaigns/nope"], "no valid record of campaigns/nope"),
        (["what-if", "--campaign", "campaigns/nope"], "campaign not found"),
        (["tail", "nope"], "no topic nope"),
        (["verify", "nope"], "no topic nope"),
        (["dlq", "show", "nope"], "no dead-letter topic nope"),
        (["topics", "rebuild", "nope"], "no topic nope"),
        (["offsets", "recover", "--group", "nope"], "nope does not resume at a committed offset"),
    ):
        assert main([*arguments, "--json", "--kafka", KAFKA]) == CANNOT_RUN, arguments
        printed = capsys.readouterr()
        assert said in printed.err
    del broker.records[ORDERS.name]
    assert main(["tail", ORDERS.name, "--kafka", KAFKA]) == CANNOT_RUN
    assert "has no topic orders.order.v1" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "gbk", "cp1252"])
@pytest.mark.parametrize("arguments", PRINTING, ids=lambda one: " ".join(one[:3]))
def test_a_command_fits_any_encoding(
    arguments: list[str], encoding: str, broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    garble(broker)
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    assert main([*arguments, "--kafka", KAFKA]) in {OK, DOES_NOT_HOLD, CANNOT_RUN}
    assert not unsafe(raw.getvalue().decode(encoding))
