"""The live page: ladders, cards, filters, and what the fold of the logs makes of records."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest
from groupbuy.groups.v1 import decisions_pb2 as g
from groupbuy.links.v1.links_pb2 import SHARE_CHANNEL_LIVE_ROOM, Invitation
from groupbuy.payments.v1 import decisions_pb2 as p

from console.live import board as board_module
from console.live import observer as observer_module
from console.live.board import Board, momentum
from console.live.ladder import MAX_DOTS, ladder_of
from console.live.observer import LiveObserver
from console.live.reports import ROOM_MS, Ending, Room
from console.live.services import Services
from console.live.stock import Stocks
from console.pages.live import LiveChannel
from ops.audit.cases import Case
from ops.audit.findings import Findings
from ops.audit.fold import LogFold
from ops.audit.group.membership import GroupState
from ops.watch.folding.summary import OpenItem
from ops.watch.view import View
from ops.watch.worker import Progress
from shared_kernel.topics import GROUP_LOG, PAYMENT_LOG
from tests.unit.console.support import KEY, NOW_MS, TIERS, card, report


class NoServices:
    """Services that all answer, without an inventory."""

    channels: Mapping[str, Any] = {}

    def notice(self) -> str:
        return ""


def channel(board: Board, campaign: str = "", room: str = "") -> LiveChannel:
    services = cast(Services, NoServices())
    return LiveChannel(board, services, Stocks(services), campaign, room)


@pytest.mark.parametrize(
    ("confirmed", "missing", "price", "states"),
    [
        (0, 2, 8_900, ["later", "next", "later"]),
        (1, 1, 8_900, ["later", "next", "later"]),
        (2, 3, 8_900, ["won", "won", "next"]),
        (4, 1, 8_900, ["won", "won", "next"]),
        (5, 0, 7_900, ["won", "won", "won"]),
    ],
)
def test_a_ladder_says_what_the_next_step_takes(confirmed: int, missing: int, price: int, states: list[str]) -> None:
    found = ladder_of(TIERS, 9_900, 5, confirmed)
    assert (found.missing, found.price_minor) == (missing, price)
    assert [step.state for step in found.steps] == states
    assert [step.now for step in found.steps].count(True) == (confirmed >= 2)
    heights = [step.height for step in found.steps]
    assert heights == sorted(heights, reverse=True) and 1 <= heights[-1] <= heights[0] <= 10


def test_seats_are_drawn_one_by_one_up_to_a_number() -> None:
    assert ladder_of(TIERS, 9_900, 5, 2, 3).seats == ["paid", "paid", "paying", "free", "free"]
    assert ladder_of(TIERS, 9_900, MAX_DOTS + 1, 2).seats == []


def test_cards_come_and_go_and_are_filtered() -> None:
    board = Board(View(1))
    board.take(report(card(2), card(1), card(3, campaign="hat-1", product="hat", room="A1B2")))
    assert [one.key[-1] for one in board.forming()[0]] == ["1", "2", "3"]
    assert [one.product for one in board.forming("hat-1")[0]] == ["hat"]
    assert [one.product for one in board.forming(room="A1B2")[0]] == ["hat"]
    board.take(report(gone=[KEY.format(1)]))
    assert KEY.format(1) not in board.cards
    board.take(report(card(4), reset=True))
    assert [one.key[-1] for one in board.forming()[0]] == ["4"]


def test_seats_of_the_last_minute_are_momentum() -> None:
    assert momentum(card(joins=(NOW_MS - 61_000, NOW_MS - 59_000, NOW_MS)), NOW_MS) == 2


def test_the_page_shows_cards_and_escapes_what_others_wrote() -> None:
    board = Board(View(1))
    hostile = "<script>alert(1)</script>"
    board.take(report(card(product=hostile), endings=[Ending("declined", "k", "c", hostile, NOW_MS, what=hostile)]))
    page = channel(board)
    page.update()
    text = "".join(page.items("groups")) + page.part("failed") + page.part("filters")
    assert "<script>" not in text
    assert text.count("&lt;script&gt;") >= 4
    assert "¥89.00" in text
    assert "1 more" in text


def test_an_unchanged_card_is_not_sent_again() -> None:
    board = Board(View(1))
    board.take(report(card(1), card(2)))
    page = channel(board)
    page.update()
    before = page.version
    board.take(report(card(2, confirmed=2, taken=2, version=2)))
    page.update()
    frame = page.frame(before).decode()
    assert f"/groups/{KEY.format(2)}" in frame
    assert f"/groups/{KEY.format(1)}" not in frame


def test_a_campaign_and_a_live_room_have_a_page_of_their_own() -> None:
    board = Board(View(1))
    endings = [
        Ending("settled", "a", "mug-1", "mug", NOW_MS),
        Ending("settled", "b", "hat-1", "hat", NOW_MS, room="A1B2"),
        Ending("settled", "c", "hat-1", "beret", NOW_MS),
    ]
    now_ms = board_module.now_ms()
    rooms = [
        Room("A1B2", "hat-1", 3, 1, now_ms),
        Room("A1B2", "mug-1", 4, 2, now_ms),
        Room("C3D4", "mug-1", 9, 2, now_ms),
        Room("E5F6", "hat-1", 9, 2, now_ms - ROOM_MS),
    ]
    board.take(report(card(1, campaign="hat-1", room="A1B2"), endings=endings, rooms=rooms))
    all_, hats, room = channel(board), channel(board, "hat-1"), channel(board, "", "A1B2")
    both = channel(board, "hat-1", "A1B2")
    for page in (all_, hats, room, both):
        page.update()
        assert "live room E5F6" not in page.part("filters")
    assert "7 seats, 3 groups" in all_.part("filters") and "live room C3D4" in all_.part("filters")
    assert "3 seats, 1 group<" in hats.part("filters") and "live room C3D4" not in hats.part("filters")
    assert "/?campaign=hat-1&amp;room=A1B2" in hats.part("filters")
    assert "hat" in hats.part("completed") and "beret" in hats.part("completed") and "mug" not in hats.part("completed")
    for page in (room, both):
        assert "hat" in page.part("completed") and "beret" not in page.part("completed")
        assert len(list(page.items("groups"))) == 1
    assert 'href="/?campaign=hat-1" aria-current="true">live room' in both.part("filters")


# --- the fold --------------------------------------------------------------------------------------------------------


class Audit:
    """The cases of some groups, as the observer needs them."""

    def __init__(self) -> None:
        self.known: dict[str, Case] = {}
        self.cases = SimpleNamespace(get=self.known.get)
        self.fold = LogFold(lambda key: self.known.setdefault(key, Case(key, Findings())), Findings())

    def open_items(self) -> Any:
        for key, case in self.known.items():
            if case.group.state is GroupState.FORMING:
                yield key, OpenItem("deadline", "", 0, case.group.deadline_ms, "")


class Log:
    """Feeds an observer as the watch's worker does."""

    def __init__(self) -> None:
        self.audit = cast(Any, Audit())
        self.observer = LiveObserver()
        self.observer.opened(self.audit)
        self.observer.ended_round(self.audit)
        self.observer.drain(Progress(0, 1, 0, 0, None))
        self._version = 0

    def decide(self, *events: g.GroupEvent) -> None:
        self._version += 1
        made = g.GroupDecision(group=KEY.format(1), version=self._version, time_ms=NOW_MS, events=events)
        self.take(GROUP_LOG.name, made.SerializeToString())

    def take(self, topic: str, value: bytes) -> None:
        record = SimpleNamespace(
            topic=topic, partition=0, offset=self._version, timestamp=NOW_MS, key=KEY.format(1).encode(), value=value
        )
        record.headers = []
        self.audit.fold.take(topic, [record])
        self.observer.took(topic, [record])

    def end_round(self) -> Any:
        self.observer.ended_round(self.audit)
        return self.observer.drain(Progress(0, 1, 0, 0, None))


def opened() -> g.GroupEvent:
    terms = g.Terms(
        campaign="mug-1", product="mug", currency="CNY", solo_price_minor=9_900, capacity=5, window_ms=60_000
    )
    for members, price in TIERS:
        terms.tiers.add(members=members, unit_price_minor=price)
    return g.GroupEvent(
        opened=g.GroupOpened(terms=terms, leader_order="o1", leader_customer="secret-ann", deadline_ms=NOW_MS + 60_000)
    )


def seat(order: str, inviter: str = "") -> g.GroupEvent:
    made = g.SeatReserved(order=order, customer=f"secret-{order}", quantity=1, currency="CNY", hold_amount_minor=8_900)
    if inviter:
        made.invitation.CopyFrom(Invitation(inviter=inviter, channel=SHARE_CHANNEL_LIVE_ROOM))
    return g.GroupEvent(seat_reserved=made)


def test_records_become_a_card_without_anybodys_id() -> None:
    log = Log()
    log.decide(opened(), seat("o1"), seat("o2", inviter="secret-host"))
    found = log.end_round()
    (made,) = found.cards
    assert (made.product, made.taken, made.confirmed, made.opened_ms) == ("mug", 2, 0, NOW_MS)
    assert made.joins == (NOW_MS, NOW_MS)
    assert found.touched == [KEY.format(1)]
    assert [(room.campaign, room.seats, room.groups) for room in found.rooms] == [("mug-1", 1, 1)]
    assert made.room == found.rooms[0].label
    assert "secret" not in repr(found)


def test_a_duplicate_record_counts_once() -> None:
    log = Log()
    log.decide(opened(), seat("o1"))
    log._version = 0
    log.decide(opened(), seat("o1"))
    assert log.end_round().cards[0].joins == (NOW_MS,)


def test_a_closed_group_leaves_and_is_an_ending() -> None:
    log = Log()
    log.decide(opened(), seat("o1"))
    log.end_round()
    log.decide(g.GroupEvent(expired=g.GroupExpired(members=1)))
    found = log.end_round()
    assert found.gone == [KEY.format(1)]
    assert [(one.kind, one.members, one.product) for one in found.endings] == [("expired", 1, "mug")]


def test_the_ending_of_a_group_names_its_live_room() -> None:
    log = Log()
    log.decide(opened(), seat("o1"), seat("o2", inviter="secret-host"))
    room = log.end_round().cards[0].room
    log.decide(g.GroupEvent(completed=g.GroupCompleted(tier_members=2, unit_price_minor=8_900, orders=["o1", "o2"])))
    assert [one.room for one in log.end_round().endings] == [room] and room
    log.decide(g.GroupEvent(settled=g.GroupSettled(settled=2)))
    assert [one.room for one in log.end_round().endings] == [room]


def test_payments_that_fail_are_endings() -> None:
    log = Log()
    log.decide(opened(), seat("o1"))
    declined = p.PaymentEvent(hold_declined=p.HoldDeclined(order="o1", reason="insufficient_funds"))
    log.take(PAYMENT_LOG.name, p.PaymentDecision(version=1, time_ms=NOW_MS, events=[declined]).SerializeToString())
    found = log.end_round()
    assert [(one.kind, one.what) for one in found.endings] == [("declined", "hold: insufficient_funds")]


def test_a_record_that_is_no_message_stops_nothing() -> None:
    log = Log()
    log.take(GROUP_LOG.name, b"\xff\xff")
    assert log.end_round().cards == []


def test_after_the_history_the_groups_with_the_next_deadlines_have_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observer_module, "MAX_CARDS", 2)
    audit, observer = cast(Any, Audit()), LiveObserver()
    observer.opened(audit)
    for number in (3, 1, 2):
        event = opened()
        event.opened.deadline_ms = NOW_MS + 1_000 * number
        key = KEY.format(number)
        value = g.GroupDecision(group=key, version=1, time_ms=NOW_MS, events=[event]).SerializeToString()
        record = SimpleNamespace(
            partition=0, offset=number, timestamp=NOW_MS, key=key.encode(), value=value, headers=[]
        )
        audit.fold.take(GROUP_LOG.name, [record])
        observer.took(GROUP_LOG.name, [record])
    observer.ended_round(audit)
    found = observer.drain(Progress(0, 1, 0, 0, None))
    assert sorted(one.key[-1] for one in found.cards) == ["1", "2"]
    assert found.reset and found.forming == 3


def test_the_number_of_forming_groups_follows_the_log() -> None:
    log = Log()
    log.decide(opened(), seat("o1"))
    assert log.end_round().forming == 1
    log.decide(g.GroupEvent(expired=g.GroupExpired(members=1)))
    assert log.end_round().forming == 0


def test_the_board_keeps_the_next_deadlines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board_module, "MAX_KEPT", 4)
    board = Board(View(1))
    board.take(report(*(card(number) for number in range(1, 7)), forming=6))
    assert sorted(one[-1] for one in board.cards) == ["1", "2"]
    assert board.forming() == ([card(1), card(2)], 6)
