"""Foreign text can't move the cursor, hide text or forge a line on an operator's screen."""

from __future__ import annotations

import io
import json
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from groupbuy.groups.v1 import decisions_pb2 as g
from groupbuy.groups.v1.campaigns_pb2 import Tier
from groupbuy.groups.v1.inbox_pb2 import GroupInput
from groupbuy.orders.v1.facts_pb2 import OrderCancelRequested, OrderFact, OrderPlaced
from groupbuy.payments.v1 import decisions_pb2 as p
from groupbuy.simprovider.v1.simprovider_pb2 import StatementEntry
from rich.table import Table
from rich.text import Text

from chassis.telemetry.printable import json_safe, printable, printable_bytes, printable_lines
from ops import main
from ops.audit.auditor import Auditor
from ops.audit.findings import Findings, Invariant
from ops.audit.money.statement import Totals
from ops.broker import acls, dlq, offsets, skip
from ops.demo.board import Board
from ops.demo.screen.results import by_group, members
from ops.errors import OpsError
from ops.ledger import command as ledger
from ops.log import history, invites, show
from ops.log.rendering import decode
from ops.log.rendering.describe import event_line
from ops.log.rerun import compared, replay
from ops.log.rerun.simulated import Outcome
from ops.reconcile import command as reconcile
from ops.reconcile.comparison import Kind, Line
from ops.terminal import output, rich_console
from ops.terminal.output import Output
from ops.terminal.printing import as_json
from ops.terminal.rich_console import SafeConsole
from shared_kernel.topics import CAMPAIGNS, GROUP_INBOX, GROUP_LOG, ORDERS, PAYMENT_LOG
from tests.unit.ops.hostile import ALL, TEXTS, forged, unsafe

KEY = ALL.encode()


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_text_is_printed_on_one_line_without_control_characters(text: str) -> None:
    safe = printable(text)
    assert not unsafe(safe)
    assert "\n" not in safe
    assert printable(safe) == safe
    assert printable_bytes(text.encode()) == safe
    assert json.loads(json_safe(json.dumps(text, ensure_ascii=False))) == text
    assert not unsafe(json_safe(json.dumps(text, ensure_ascii=False)))


def test_ordinary_text_is_printed_unchanged() -> None:
    for text in ("拼团 ¥89.00", "münchen", "Ωmega é e\u0301", "🎉 x", "a [b] \\ c"):
        assert printable(text) == text
    assert printable_bytes(b"\xff\xfe") == "\\xff\\xfe"
    assert printable_lines("a\nb\x1b") == "a\nb\\x1b"


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """The output of all commands."""
    out = io.StringIO()
    made = lambda: SafeConsole(file=out, width=400, force_terminal=False)  # noqa: E731
    for module in (rich_console, output):
        monkeypatch.setattr(module, "console", made)
    monkeypatch.setattr(sys, "stdout", out)
    return out


def safe(out: io.StringIO, *parts: str) -> str:
    output = out.getvalue()
    assert output
    assert not unsafe(output)
    assert not forged(output)
    for part in parts or ("[bold red]violation[/]",):
        assert part in output
    return output


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_the_console_escapes_any_content(text: str) -> None:
    out = io.StringIO()
    made = SafeConsole(file=out, width=200)
    table = Table(title=text)
    table.add_column(text)
    table.add_row(text)
    table.add_row(Text(text.replace("\n", "")))
    made.print(text)
    made.print(table)
    assert not unsafe(out.getvalue())
    assert not forged(out.getvalue())


def record(value: bytes | None, key: bytes | None = KEY, **more: Any) -> Any:
    fields = {
        "topic": "t",
        "partition": 0,
        "offset": 3,
        "timestamp": 1_000,
        "headers": [(ALL, KEY), ("ce_subject", KEY)],
    }
    return SimpleNamespace(**{**fields, "key": key, "value": value, **more})


FACT = OrderFact(
    order=ALL,
    group=ALL,
    customer=ALL,
    placed=OrderPlaced(quantity=1, currency=ALL, max_unit_price_minor=5, payment_method=ALL),
)
CANCEL = OrderFact(order=ALL, group=ALL, customer=ALL, cancel_requested=OrderCancelRequested(request_id=ALL))
CANCELLED = g.GroupDecision(group=ALL, version=1, events=[g.GroupEvent(cancelled=g.GroupCancelled(reason=ALL))])
DECLINED = p.PaymentDecision(
    group=ALL,
    version=1,
    events=[
        p.PaymentEvent(hold_declined=p.HoldDeclined(order=ALL, reason=ALL)),
        p.PaymentEvent(action_required=p.ActionRequired(order=ALL, action_url=ALL)),
    ],
)
COPY = GroupInput(order_fact=FACT.SerializeToString())
RECORDS = [
    (ORDERS, FACT),
    (ORDERS, CANCEL),
    (GROUP_LOG, CANCELLED),
    (PAYMENT_LOG, DECLINED),
    (GROUP_INBOX, COPY),
]


@pytest.mark.parametrize(("spec", "message"), RECORDS, ids=[f"{s.name} {i}" for i, (s, _) in enumerate(RECORDS)])
def test_tail_and_show(spec: Any, message: Any, screen: io.StringIO) -> None:
    one = record(message.SerializeToString())
    for text in (decode.line(spec, one), as_json(decode.as_object(spec, one))):
        assert not unsafe(text)
        assert "\n" not in text
    assert decode.as_object(spec, one)["key"] == ALL
    if spec in history.HISTORY:
        for line in history.lines([history.Entry(spec, one, decode.decode(spec, one))]):
            rich_console.console().print(show.styled(line), soft_wrap=True)
        safe(screen)


def test_tail_prints_undecodable_bytes() -> None:
    for spec in (CAMPAIGNS, ORDERS):
        for value in (None, b"\xff\x1b[2J", b""):
            for key in (None, b"\xff\xfe\x1b", KEY):
                assert not unsafe(decode.line(spec, record(value, key)))
                assert not unsafe(as_json(decode.as_object(spec, record(value, key))))


@pytest.mark.parametrize("event", [g.GroupEvent, p.PaymentEvent])
def test_every_event_with_hostile_texts_and_absurd_numbers(event: Any) -> None:
    for name in event.DESCRIPTOR.oneofs_by_name["body"].fields:
        made = event()
        _fill(getattr(made, name.name))
        output = event_line(made)
        assert not unsafe(output)
        assert "\n" not in output


def _fill(message: Any, depth: int = 0) -> None:
    message.SetInParent()
    for field in message.DESCRIPTOR.fields:
        repeated = field.is_repeated
        if field.message_type is not None:
            if depth < 3:
                _fill(getattr(message, field.name).add() if repeated else getattr(message, field.name), depth + 1)
            continue
        value: Any = {
            field.CPPTYPE_STRING: KEY if field.type == field.TYPE_BYTES else ALL,
            field.CPPTYPE_BOOL: True,
            field.CPPTYPE_INT64: 2**63 - 1,
            field.CPPTYPE_INT32: 2**31 - 1,
            field.CPPTYPE_UINT32: 2**32 - 1,
            field.CPPTYPE_ENUM: 999,
        }[field.cpp_type]
        if repeated:
            getattr(message, field.name).append(value)
        else:
            setattr(message, field.name, value)


def test_dlq_show(screen: io.StringIO) -> None:
    for doubt in ("", ALL):
        origin = dlq.Origin("orders.order.v1", 0, 7, None if doubt else record(b"x"), doubt)
        dead = record(
            KEY, topic="orders.order.v1.groups.dlq", headers=[("ce_subject", KEY), ("dlq-error", KEY), ("dlq-cut", KEY)]
        )
        dlq._print_letter(Output(), dead, origin)
        encoded = as_json(dlq._fields(dead, origin))
        assert not unsafe(encoded)
        assert json.loads(encoded)["claimed_subject"] == ALL
    safe(screen, "proven: the record has these bytes", "[bold red]violation[/]")


def test_audit(screen: io.StringIO) -> None:
    report = Auditor().report(settled=False)
    report.findings.breach(Invariant.VERSIONS, ALL, ALL, ALL)
    report.findings.alarm(ALL)
    report.findings.add_pending(ALL)
    report.money[ALL] = Totals()
    report.print(rich_console.console())
    safe(screen)
    assert not unsafe(report.json())


def test_replay(screen: io.StringIO) -> None:
    replay._print(Output(), [replay.Replayed("log", differences=[ALL], stopped=[ALL])])
    safe(screen)


def test_what_if(screen: io.StringIO) -> None:
    money = Outcome()
    money.captured[ALL] = 5
    compared.show(Output(), compared.Compared(was=money))
    safe(screen)


def test_reconcile(screen: io.StringIO) -> None:
    reconcile._print(Output(), [Line(Kind.DIFFERS, ALL, ALL, ALL, ALL, ALL)])
    safe(screen)


def test_invites(screen: io.StringIO) -> None:
    found = invites.Invites()
    found.uninvited.append(invites.Order(ALL, ALL))
    link = invites.Shared(ALL, inviter=ALL, channel=ALL)
    link.orders.append(invites.Order(ALL, ALL))
    found.links.append(link)
    rich_console.console().print(invites.tree("key", found))
    safe(screen)
    assert not unsafe(as_json(invites.report("key", found)))


def test_offsets_and_ledger(screen: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    start = offsets.Start("g", TopicPartition("t", 0), 3, True, ALL)
    monkeypatch.setattr(offsets, "at_broker", lambda *_, **__: ([start], [start]))
    offsets.recover(kafka="127.0.0.1:1", dry_run=True)
    balances = SimpleNamespace(items=lambda: [((ALL, SimpleNamespace(name="CASH")), (1, 1))])
    folds = {0: SimpleNamespace(balances=balances)}
    monkeypatch.setattr(ledger, "_collect", lambda _: SimpleNamespace(faults=[], ledger=SimpleNamespace(folds=folds)))
    ledger.balances(kafka="127.0.0.1:1")
    safe(screen)


def test_skip(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(skip, "at_broker", lambda *_, **__: (record(KEY), ALL))
    skip.skip(GROUP_INBOX.name, 0, 3, reason=ALL, kafka="127.0.0.1:1", dry_run=False)
    output = capsys.readouterr().out
    assert not unsafe(output)
    assert not forged(output)


@pytest.mark.parametrize("lines", [(), (ALL, ALL)])
def test_an_error_is_one_line(lines: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    def fails(*_: object) -> None:
        raise OpsError(ALL, lines=lines)

    monkeypatch.setattr(acls, "_compared", fails)
    assert main.main(["acls", "check", "--kafka", "127.0.0.1:1"]) == 1
    output = capsys.readouterr().err
    assert not unsafe(output)
    assert not forged(output)
    assert output.count("\n") == 1 + len(lines)


def test_a_quoted_argument_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["tail", ALL], ["show", "group", ALL], ["dlq", "show", ALL], ["invites", ALL], [ALL]):
        assert main.main([*command, *(() if command == [ALL] else ("--kafka", "127.0.0.1:1"))]) == 2
        output = capsys.readouterr().err
        assert not unsafe(output)
        assert not forged(output)


def test_the_demo(screen: io.StringIO) -> None:
    board = Board({})
    group = "5d7c9f3e-0000-4000-8000-000000000001"
    tier = Tier(members=2, unit_price_minor=1)
    terms = g.Terms(campaign=ALL, currency=ALL, capacity=2, tiers=[tier])
    opened = g.GroupOpened(leader_order=ALL, leader_customer=ALL, terms=terms)
    events = [
        g.GroupEvent(opened=opened),
        g.GroupEvent(seat_reserved=g.SeatReserved(order=ALL, customer=ALL, quantity=1, currency=ALL)),
        g.GroupEvent(cancelled=g.GroupCancelled(reason=ALL)),
    ]
    board._group(group, g.GroupDecision(group=group, version=1, events=events).SerializeToString())
    made = rich_console.console()
    for news in board.news:
        made.print(news)
    made.print(by_group(board))
    for fold in board.opened():
        made.print(members(board, fold))
    safe(screen)


def test_findings_of_the_provider(screen: io.StringIO) -> None:
    entry = StatementEntry(hold=ALL, order=ALL, currency=ALL)
    findings = Findings()
    findings.breach(Invariant.BOOKS_EQUAL, "", entry.order, f"{entry.hold} {entry.currency}")
    report = Auditor().report(settled=False)
    report.findings.violations.extend(findings.violations)
    report.print(rich_console.console())
    safe(screen)
