"""What each call does to a hold, and that its key stands for it for ever. Method: calls on a file, time by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from simulators.psp.accounts import Ledger, LedgerUnusable, Request
from simulators.psp.rules import KeyReused, NotConfirmable, NotFound
from tests.unit.psp.books import HOLD, LIFE_MS, START_MS, Books, adds_up, authorise, capture, refund, void

KEY = "a:authorise:1"


def amounts(entry: pb.StatementEntry) -> tuple[int, int, int, int]:
    """Captured, released, refunded, open."""
    assert adds_up(entry)
    return entry.captured_minor, entry.released_minor, entry.refunded_minor, entry.open_minor


def test_an_authorisation_holds_money_until_its_life_ends(books: Books) -> None:
    held = books.ask(authorise())
    assert (held.status, held.hold, held.amount_minor) == (pb.STATUS_AUTHORISED, HOLD, 100)
    assert held.capturable_until_ms == START_MS + LIFE_MS
    assert amounts(books.entry(HOLD)) == (0, 0, 0, 100)


def test_a_capture_takes_a_part_and_lets_the_rest_go(books: Books) -> None:
    books.ask(authorise())
    assert books.ask(capture(70)).status == pb.STATUS_CAPTURED
    assert amounts(books.entry(HOLD)) == (70, 30, 0, 0)


def test_a_sale_takes_all_at_once(books: Books) -> None:
    sold = books.ask(authorise(sale=True))
    assert (sold.status, sold.capturable_until_ms) == (pb.STATUS_AUTHORISED, 0)
    assert amounts(books.entry(HOLD)) == (100, 0, 0, 0)


@pytest.mark.parametrize("sale", [False, True])
def test_a_card_declined_at_authorise_leaves_no_hold(books: Books, sale: bool) -> None:
    declined = books.ask(authorise(method="card_declined", sale=sale))
    assert (declined.status, declined.hold) == (pb.STATUS_DECLINED, "")
    assert books.statement() == []


def test_a_card_declined_at_capture_keeps_its_hold_open_until_it_is_voided(books: Books) -> None:
    books.ask(authorise(method="card_decline_capture"))
    assert books.ask(capture(70)).status == pb.STATUS_DECLINED
    assert amounts(books.entry(HOLD)) == (0, 0, 0, 100)
    let_go = books.ask(void())
    assert (let_go.status, let_go.amount_minor) == (pb.STATUS_VOIDED, 100)
    assert amounts(books.entry(HOLD)) == (0, 100, 0, 0)


def test_a_sale_on_a_card_that_declines_captures_is_declined(books: Books) -> None:
    assert books.ask(authorise(method="wallet_decline_capture", sale=True)).status == pb.STATUS_DECLINED


@pytest.mark.parametrize(
    ("before", "call", "status", "reason"),
    [
        ([capture(70)], capture(70, "a:capture:2"), pb.STATUS_DECLINED, "already captured"),
        ([void()], capture(70), pb.STATUS_DECLINED, "voided"),
        ([], capture(101), pb.STATUS_DECLINED, "above what is held"),
        ([capture(70)], void(), pb.STATUS_DECLINED, "captured"),
        ([void()], void("a:void:2"), pb.STATUS_VOIDED, ""),
        ([], refund(1), pb.STATUS_DECLINED, "not captured"),
        ([void()], refund(1), pb.STATUS_DECLINED, "not captured"),
        ([capture(70)], refund(71), pb.STATUS_DECLINED, "above what was captured"),
        ([capture(70), refund(60)], refund(60, "a:refund:2"), pb.STATUS_DECLINED, "above what was captured"),
    ],
)
def test_what_a_holds_state_forbids_moves_no_money(
    books: Books, before: list[Request], call: Request, status: int, reason: str
) -> None:
    books.ask(authorise())
    for one in before:
        books.ask(one)
    entry = books.entry(HOLD)
    answer = books.ask(call)
    assert (answer.status, answer.reason, answer.amount_minor) == (status, reason, 0)
    assert books.entry(HOLD) == entry


def test_refunds_add_up_to_what_was_captured(books: Books) -> None:
    books.ask(authorise())
    books.ask(capture(70))
    assert books.ask(refund(60)).status == pb.STATUS_REFUNDED
    assert books.ask(refund(10, "a:refund:2")).status == pb.STATUS_REFUNDED
    assert amounts(books.entry(HOLD)) == (70, 30, 70, 0)


@pytest.mark.parametrize("call", [capture(1), void(), refund(1)])
def test_a_call_on_an_unknown_hold_is_not_found_and_leaves_no_trace(books: Books, call: Request) -> None:
    with pytest.raises(NotFound):
        books.ask(call)
    with pytest.raises(NotFound):
        books.ask(pb.LookUpRequest(key=call.key))


# Keys


def test_the_same_call_again_gives_the_stored_result_also_after_everything_has_changed(books: Books) -> None:
    calls: list[Request] = [authorise(), capture(70), void(), refund(60)]
    first = [books.ask(one) for one in calls]
    books.clock.now_ms += 10 * LIFE_MS
    books.reopen()
    assert [books.ask(one) for one in calls] == first
    assert [books.ask(pb.LookUpRequest(key=one.key)) for one in calls] == first
    assert amounts(books.entry(HOLD)) == (70, 30, 60, 0)


def test_a_repeat_in_the_same_transaction_is_seen(books: Books) -> None:
    first, second = books.ledger.apply([authorise(), authorise()])
    assert first == second
    assert len(books.statement()) == 1


@pytest.mark.parametrize("other", [authorise(minor=101), authorise(sale=True), void(KEY)])
def test_a_key_with_another_payload_is_refused_and_the_other_calls_of_its_transaction_are_made(
    books: Books, other: Request
) -> None:
    first, refused, last = books.ledger.apply([authorise(), other, capture(70)])
    assert isinstance(first, pb.CallResult)
    assert isinstance(refused, KeyReused)
    assert isinstance(last, pb.CallResult)
    assert amounts(books.entry(HOLD)) == (70, 30, 0, 0)


# Confirmation


def test_a_payment_that_needs_confirmation_holds_nothing_until_then(books: Books) -> None:
    asked = books.ask(authorise(method="card_action"))
    assert (asked.status, asked.hold) == (pb.STATUS_ACTION_REQUIRED, HOLD)
    assert HOLD in asked.action_url
    assert books.statement() == []
    assert books.ask(capture(70)).reason == "not confirmed"

    books.clock.now_ms += 500
    confirmed = books.ask(pb.ConfirmRequest(key=KEY))
    assert (confirmed.status, confirmed.capturable_until_ms) == (pb.STATUS_AUTHORISED, books.clock.now_ms + LIFE_MS)
    assert books.ask(authorise(method="card_action")) == confirmed
    assert books.ask(pb.LookUpRequest(key=KEY)) == confirmed
    assert books.ask(pb.ConfirmRequest(key=KEY)) == confirmed
    assert amounts(books.entry(HOLD)) == (0, 0, 0, 100)


def test_a_confirmed_sale_takes_the_money(books: Books) -> None:
    books.ask(authorise(method="wallet_action", sale=True))
    assert books.ask(pb.ConfirmRequest(key=KEY)).status == pb.STATUS_AUTHORISED
    assert amounts(books.entry(HOLD)) == (100, 0, 0, 0)


def test_a_voided_or_lapsed_or_other_call_can_not_be_confirmed(books: Books) -> None:
    books.ask(authorise(method="card_action"))
    assert books.ask(void()).amount_minor == 0
    books.ask(authorise("b:authorise:1", "card_action"))
    books.clock.now_ms += LIFE_MS
    for key in (KEY, "b:authorise:1", "a:void:1"):
        with pytest.raises(NotConfirmable):
            books.ask(pb.ConfirmRequest(key=key))
    with pytest.raises(NotFound):
        books.ask(pb.ConfirmRequest(key="unknown"))
    assert books.statement() == []


# Lapse


@pytest.mark.parametrize("call", [capture(70), void()])
def test_a_hold_whose_time_is_over_is_gone_and_counts_as_let_go(books: Books, call: Request) -> None:
    books.ask(authorise())
    books.clock.now_ms += LIFE_MS - 1
    assert amounts(books.entry(HOLD)) == (0, 0, 0, 100)
    books.clock.now_ms += 1
    assert amounts(books.entry(HOLD)) == (0, 100, 0, 0)
    assert books.ask(call).status == pb.STATUS_HOLD_GONE
    assert amounts(books.entry(HOLD)) == (0, 100, 0, 0)


def test_holds_live_seven_days_by_default(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "default.sqlite", lambda: START_MS)
    (held,) = ledger.apply([authorise()])
    ledger.close()
    assert isinstance(held, pb.CallResult)
    assert held.capturable_until_ms == START_MS + 7 * 24 * 3_600_000


# The file


def test_the_books_refuse_what_does_not_add_up_and_write_nothing_of_that_transaction(books: Books) -> None:
    """The checks of the schema hold also where the rules have a defect: one is planted by a negative capture."""
    books.ask(authorise())
    entry = books.entry(HOLD)
    with pytest.raises(Exception, match="CHECK constraint failed"):
        books.ledger.apply([authorise("b:authorise:1"), capture(-1)])
    assert books.statement() == [entry]
    assert books.ask(capture(70)).status == pb.STATUS_CAPTURED


def test_a_file_that_holds_no_such_books_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("Dear Sir or Madam, " * 100)
    with pytest.raises(LedgerUnusable):
        Ledger(path, lambda: START_MS)
