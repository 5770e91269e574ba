"""A stock item leases, takes back and sells pieces, and its books add up after each input."""

from __future__ import annotations

import pytest
from groupbuy.inventory.v1 import decisions_pb2 as pb
from groupbuy.inventory.v1.inbox_pb2 import StockInput

from services.inventory.domain.stock.decide import ANSWERS_BATCH, UnknownInput, decode
from tests.unit.inventory.items import Item, archive, create, tick, units, update


def test_with_ample_stock_a_group_gets_all_its_pieces_in_one_answer() -> None:
    item = Item(total=1_000, divisor=8)
    assert item.hears("g1", at_least=1, at_most=10) == ["leased g1 10"]
    assert item.state.free == 990


def test_a_lease_shrinks_with_the_free_pieces_and_the_open_leases_and_is_never_below_the_need() -> None:
    item = Item(total=40, divisor=2)
    assert item.hears("g1", at_least=1, at_most=30) == ["leased g1 20"]
    assert item.hears("g2", at_least=1, at_most=30) == ["leased g2 5"]
    assert item.hears("g3", at_least=4, at_most=30) == ["leased g3 4"]
    assert item.hears("g4", at_least=1, at_most=30) == ["leased g4 1"]


def test_a_group_gets_what_its_orders_wait_for_whatever_the_share() -> None:
    item = Item(total=10, divisor=1_000)
    assert item.hears("g1", at_least=1, wanted=4, at_most=9) == ["leased g1 4"]
    assert item.hears("g2", at_least=1, wanted=9, at_most=9) == ["leased g2 6"]


def test_too_few_pieces_are_an_answer_and_a_group_with_a_waitlist_stands_in_line() -> None:
    item = Item(total=3)
    assert item.hears("g1", at_least=2, at_most=2) == ["leased g1 2"]
    assert item.hears("g2", at_least=2, at_most=2) == ["out_of_stock g2 2 1"]
    assert item.hears("g3", at_least=2, at_most=2, queue=True) == ["out_of_stock g3 2 1 queued"]
    # Nobody overtakes the line, not even for the piece that is free.
    assert item.hears("g4", at_least=1, at_most=1, queue=True) == ["out_of_stock g4 1 queued"]
    assert item.hears("g1", returned=2, closed=True) == [
        "returned g1 2",
        "closed g1",
        "leased g3 2 from_line",
        "leased g4 1 from_line",
    ]


def test_a_group_that_closes_leaves_the_line() -> None:
    item = Item(total=1)
    item.hears("g1", at_least=1, at_most=1)
    item.hears("g2", at_least=1, at_most=1, queue=True)
    assert item.hears("g2", closed=True) == ["closed g2"]
    assert item.hears("g1", returned=1, closed=True) == ["returned g1 1", "closed g1"]
    assert (item.state.free, item.state.leases, item.state.line) == (1, {}, {})


def test_sold_pieces_do_not_come_back() -> None:
    item = Item(total=5)
    item.hears("g1", at_least=3, at_most=3)
    assert item.hears("g1", sold=1, returned=1, closed=True) == ["sold g1 1", "returned g1 1", "closed g1"]
    assert item.hears("g1", sold=1) == ["sold g1 1"]
    assert (item.state.free, item.state.sold, item.state.leases) == (3, 2, {})


def test_a_repeat_changes_nothing_and_each_partition_has_its_own_causes() -> None:
    item = Item(total=10)
    assert item.hears("g1", cause=7, at_least=1, at_most=1) == ["leased g1 1"]
    assert item.hears("g1", cause=7, at_least=1, at_most=1) == []
    assert item.hears("g9", cause=6, at_least=1, at_most=1) == []
    assert item.hears("g2", cause=6, partition=1, at_least=1, at_most=1) == ["leased g2 1"]


def test_a_group_can_not_give_back_or_sell_more_than_it_has() -> None:
    item = Item(total=10)
    item.hears("g1", at_least=2, at_most=2)
    assert item.hears("g1", returned=5) == ["returned g1 2"]
    assert item.hears("g1", sold=5) == []
    assert item.hears("g2", returned=5) == []
    assert item.state.free == 10


def test_one_decision_answers_a_part_of_the_line_and_the_next_tick_continues() -> None:
    item = Item(total=200)
    item.hears("all", at_least=200, at_most=200)
    for number in range(100):
        item.hears(f"g{number}", at_least=1, at_most=1, queue=True)
    lines = item.hears("all", returned=200, closed=True)
    assert sum(line.startswith("leased") for line in lines) == ANSWERS_BATCH
    assert item.due_ms is not None
    assert item.due_ms <= item.now_ms
    item.when(tick())
    assert len(item.lines) == 100 - ANSWERS_BATCH
    assert item.due_ms is None


def test_the_total_is_raised_and_lowered_but_not_below_what_is_out() -> None:
    item = Item(total=2)
    item.hears("g1", at_least=2, at_most=2)
    item.hears("g2", at_least=3, at_most=3, queue=True)
    item.when(update("u1", total=1))
    assert item.lines == [f"command_refused {pb.COMMAND_REFUSAL_BELOW_OUT}"]
    item.when(update("u2", total=6))
    assert item.lines == ["updated 6 1", "leased g2 3 from_line"]
    item.when(update("u3", total=5))
    assert item.state.free == 0
    item.when(update("u4", expected_revision=1, total=9))
    assert item.lines == [f"command_refused {pb.COMMAND_REFUSAL_REVISION}"]


def test_a_command_has_one_result_however_often_it_comes() -> None:
    item = Item(total=2)
    item.when(create(2))
    assert item.lines == []
    item.when(create(3, request_id="other"))
    assert item.lines == [f"command_refused {pb.COMMAND_REFUSAL_EXISTS}"]
    item.when(update("u1", display_name="Mugs"))
    item.when(update("u1", display_name="Cups"))
    assert (item.lines, item.state.display_name, item.state.revision) == ([], "Mugs", 2)


def test_an_archived_item_sends_the_line_away_and_gives_no_lease() -> None:
    item = Item(total=1)
    item.hears("g1", at_least=1, at_most=1)
    item.hears("g2", at_least=1, at_most=1, queue=True)
    item.when(archive())
    assert item.lines == ["archived", "out_of_stock g2 1"]
    assert item.hears("g1", returned=1) == ["returned g1 1"]
    assert item.hears("g3", at_least=1, at_most=1, queue=True) == ["out_of_stock g3 1"]
    item.when(update("u1", total=5))
    assert item.lines == [f"command_refused {pb.COMMAND_REFUSAL_ARCHIVED}"]


def test_an_unknown_item_has_no_pieces() -> None:
    item = Item.__new__(Item)
    super(Item, item).__init__(Item().domain, "drop", str, start_ms=0)
    item.when(units("g1", cause=1, at_least=1, at_most=1, queue=True))
    assert [event.WhichOneof("body") for event in item.events] == ["heard", "out_of_stock"]
    assert not item.events[1].out_of_stock.queued


def test_the_offer_is_announced_when_it_changes() -> None:
    item = Item(total=1)
    states = []
    for fields in ({"at_least": 1, "at_most": 1}, {"returned": 1}):
        item.hears("g1", **fields)
        states += [event.offer_changed.state for event in item.events if event.WhichOneof("body") == "offer_changed"]
    assert states == [pb.OFFER_STATE_SOLD_OUT, pb.OFFER_STATE_LIVE]


def test_an_error_in_the_rules_still_answers_a_group_that_asks() -> None:
    item = Item()
    command = decode(units("g1", cause=9, at_least=1, at_most=1).SerializeToString())
    kinds = [event.WhichOneof("body") for event in item.domain.faulted(item.state, command, "KeyError")]
    assert kinds == ["faulted", "heard", "out_of_stock"]


def test_an_error_in_the_rules_on_a_repeat_is_not_answered_again() -> None:
    item = Item(total=5)
    item.hears("g1", at_least=1, at_most=1)
    ((partition, cause),) = item.state.heard.items()
    repeat = decode(units("g1", cause=cause, partition=partition, at_least=1, at_most=1).SerializeToString())
    kinds = [event.WhichOneof("body") for event in item.domain.faulted(item.state, repeat, "KeyError")]
    assert kinds == ["faulted"]


def test_an_input_of_a_newer_build_is_not_skipped() -> None:
    with pytest.raises(UnknownInput):
        decode(StockInput().SerializeToString())
