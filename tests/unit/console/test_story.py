"""The lines of a story: those of the command line, with what moved and how each call of the provider ended."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from google.protobuf.message import Message
from groupbuy.groups.v1 import decisions_pb2 as g
from groupbuy.orders.v1.facts_pb2 import OrderFact, OrderPlaced
from groupbuy.payments.v1 import decisions_pb2 as p

from console.live.ladder import ladder_of
from console.pages.story_lines import provider_calls, story_lines
from console.web.templates import fragment
from ops.log.history import Entry, lines
from shared_kernel.topics import GROUP_LOG, ORDERS, PAYMENT_LOG
from tests.unit.console.support import KEY, NOW_MS

ORDER = KEY.format(2)


def entry(topic: str, offset: int, message: Message, after_ms: int = 0) -> Entry:
    value = message.SerializeToString()
    record = SimpleNamespace(
        topic=topic, partition=3, offset=offset, timestamp=NOW_MS + after_ms, value=value, headers=[]
    )
    return Entry.of(topic, record)


def call(operation: p.Operation.ValueType, minor: int) -> p.ProviderCall:
    return p.ProviderCall(order=ORDER, operation=operation, attempt=1, amount_minor=minor, currency="CNY")


def history() -> list[Entry]:
    placed = OrderPlaced(opens_group=True, quantity=1, currency="CNY", max_unit_price_minor=8_900)
    seat = g.GroupEvent(seat_reserved=g.SeatReserved(order=ORDER, quantity=1, currency="CNY", hold_amount_minor=8_900))
    authorise, capture = call(p.OPERATION_AUTHORISE, 8_900), call(p.OPERATION_CAPTURE, 7_900)
    held = p.HoldAuthorised(
        order=ORDER, operation=p.OPERATION_AUTHORISE, attempt=1, amount_minor=8_900, currency="CNY", hold="h1"
    )
    captured = p.Captured(order=ORDER, amount_minor=7_900, released_minor=1_000, currency="CNY")
    deferred = p.CallDeferred(order=ORDER, operation=p.OPERATION_CAPTURE, attempt=1, error="timed out")
    return [
        entry(ORDERS.name, 1, OrderFact(order=ORDER, customer="customer 1", placed=placed)),
        entry(GROUP_LOG.name, 7, g.GroupDecision(version=1, events=[seat, seat]), 40),
        entry(PAYMENT_LOG.name, 8, payments(1, hold_requested=p.HoldRequested(call=authorise)), 50),
        entry(PAYMENT_LOG.name, 9, payments(2, hold_authorised=held), 90),
        entry(PAYMENT_LOG.name, 10, payments(3, capture_requested=p.CaptureRequested(call=capture)), 65_090),
        entry(PAYMENT_LOG.name, 11, payments(4, call_deferred=deferred), 65_100),
        entry(PAYMENT_LOG.name, 12, payments(5, call_retried=p.CallRetried(call=capture)), 65_200),
        entry(PAYMENT_LOG.name, 13, payments(6, captured=captured), 65_300),
    ]


def payments(version: int, **event: Message) -> p.PaymentDecision:
    return p.PaymentDecision(version=version, events=[p.PaymentEvent(**event)])  # type: ignore[arg-type]


def test_a_story_has_the_texts_of_the_command_line() -> None:
    printed = list(lines(history()))
    shown = list(story_lines(printed))
    assert [(one.time, one.head, one.text) for one in shown] == [(one.time, one.head, one.text) for one in printed]
    assert len({one.key for one in shown}) == len(shown) == 9
    assert shown[1].digest == shown[2].digest and shown[1].version == 1
    assert shown[1].place == f"{GROUP_LOG.name} 3:7"


def test_money_pauses_and_tones() -> None:
    shown = list(story_lines(lines(history())))
    assert [one.money for one in shown if one.money] == [
        [("held", "¥89.00")],
        [("captured", "¥79.00"), ("released", "¥10.00")],
    ]
    assert [one.pause for one in shown if one.pause] == ["1 min 5 s later"]
    assert [(one.head, one.tone) for one in shown if one.tone] == [("payments 4", "bad"), ("payments 6", "good")]


def test_each_call_of_the_provider_has_its_result() -> None:
    found = provider_calls(lines(history()))
    assert [(one.operation, one.amount, one.result) for one in found] == [
        ("authorise", "¥89.00", "done"),
        ("capture", "¥79.00", "deferred: timed out"),
        ("capture", "¥79.00", "done"),
    ]


def test_a_record_that_can_not_be_decoded_is_a_line() -> None:
    record = SimpleNamespace(topic=GROUP_LOG.name, partition=0, offset=1, timestamp=NOW_MS, value=b"\xff", headers=[])
    (one,) = story_lines(lines([Entry.of(GROUP_LOG.name, record)]))
    assert "can't be decoded" in one.text and one.version == 0


def test_a_line_escapes_what_others_wrote() -> None:
    cancelled = g.GroupEvent(cancelled=g.GroupCancelled(reason="<img src=x onerror=alert(1)>"))
    (one,) = story_lines(lines([entry(GROUP_LOG.name, 1, g.GroupDecision(version=1, events=[cancelled]))]))
    html = fragment("story_macros.html", "line", one, KEY.format(1))
    assert "<img" not in html and "&lt;img" in html


@pytest.mark.parametrize(("cost", "shown"), [(0, False), (1_200, True)])
def test_a_group_shows_the_cost_of_a_kept_price(cost: int, shown: bool) -> None:
    terms = SimpleNamespace(campaign="mug", currency="CNY", capacity=3)
    group = SimpleNamespace(key=KEY.format(1), terms=terms, members=("a", "b"), confirmed={}, taken=2, deadline_ms=0)
    view = ladder_of([(2, 8_900), (3, 7_900)], 9_900, 3, 2, 2)
    html = fragment("story_macros.html", "state", group, "settled", view, "", "", cost)
    assert ("the merchant bears ¥12.00" in html) is shown
