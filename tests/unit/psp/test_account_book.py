"""The effect of each call on a hold, and idempotency by key for ever. Method: calls on a file with a manual clock."""

from __future__ import annotations

from pathlib import Path

import pytest
from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from simulators.psp.accounts.account_book import AccountBook, AccountBookUnusable, Request
from simulators.psp.accounts.holds import KeyReused, NotConfirmable, NotFound
from tests.unit.psp.account_books import HOLD, LIFE_MS, START_MS, Books, adds_up, authorise, capture, refund, void

KEY = "a:authorise:1"


def amounts(entry: pb.StatementEntry) -> tuple[int, int, int, int]:
    """Captured, released, refunded, open."""
    assert adds_up(entry)
    return entry.captured_minor, entry.released_minor, entry.refunded_minor, entry.open_minor


def test_an_authorisation_holds_money_until_it_expires(books: Books) -> None:
    held = books.apply(authorise())
    assert (held.status, held.hold, held.amount_minor) == (pb.STATUS_AUTHORISED, HOLD, 100)
    assert held.capturable_until_ms == START_MS + LIFE_MS
    assert amounts(books.entry(HOLD)) == (0, 0, 0, 100)


def test_a_partial_capture_releases_the_rest(books: Books) -> None:
    books.apply(authorise())
    assert books.apply(capture(70)).status == pb.STATUS_CAPTURED
    assert amounts(books.entry(HOLD)) == (70, 30, 0, 0)


def test_a_sale_takes_all_at_once(books: Books) -> None:
    sold = books.apply(authorise(sale=True))
    assert (sold.status, sold.capturable_until_ms) == (pb.STATUS_AUTHORISED, 0)
    assert amounts(books.entry(HOLD)) == (100, 0, 0, 0)


@pytest.mark.parametrize("sale", [False, True])
def test_a_card_declined_at_authorise_leaves_no_hold(books: Books, sale: bool) -> None:
    declined = books.apply(authorise(method="card_declined", sale=sale))
    assert (declined.status, declined.hold) == (pb.STATUS_DECLINED, "")
    assert books.statement() == []


def test_a_card_declined_at_capture_keeps_its_hold_open_until_it_is_voided(books: Books) -> None:
    books.apply(authorise(method="card_decline_capture"))
    assert books.apply(capture(70)).status == pb.STATUS_DECLINED
    assert amounts(books.entry(HOLD)) == (0, 0, 0, 100)
    released = books.apply(void())
    assert (released.status, released.amount_minor) == (pb.STATUS_VOIDED, 100)
    assert amounts(books.entry(HOLD)) == (0, 100, 0, 0)


def test_a_sale_on_a_card_that_declines_captures_is_declined(books: Books) -> None:
    assert books.apply(authorise(method="wallet_decline_capture", sale=True)).status == pb.STATUS_DECLINED


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
def test_a_call_that_the_state_of_a_hold_forbids_moves_no_money(
    books: Books, before: list[Request], call: Request, status: int, reason: str
) -> None:
    books.apply(authorise())
    for one in before:
        books.apply(one)
    entry = books.entry(HOLD)
    answer = books.apply(call)
    assert (answer.status, answer.reason, answer.amount_minor) == (status, reason, 0)
    assert books.entry(HOLD) == entry


def test_refunds_add_up_to_what_was_captured(books: Books) -> None:
    books.apply(authorise())
    books.apply(capture(70))
    assert books.apply(refund(60)).status == pb.STATUS_REFUNDED
    assert books.apply(refund(10, "a:refund:2")).status == pb.STATUS_REFUNDED
    assert amounts(books.entry(HOLD)) == (70, 30, 70, 0)


@pytest.mark.parametrize("call", [capture(1), void(), refund(1)])
def test_a_call_on_an_unknown_hold_is_not_found_and_leaves_no_trace(books: Books, call: Request) -> None:
    with pytest.raises(NotFound):
        books.apply(call)
    with pytest.raises(NotFound):
        books.apply(pb.LookUpRequest(key=call.key))


# Keys


def test_a_duplicate_gets_the_stored_result_after_later_changes(books: Books) -> None:
    calls: list[Request] = [authorise(), capture(70), void(), refund(60)]
    first = [books.apply(one) for one in calls]
    books.clock.now_ms += 10 * LIFE_MS
    books.reopen()
    assert [books.apply(one) for one in calls] == first
    assert [books.apply(pb.LookUpRequest(key=one.key)) for one in calls] == first
    assert amounts(books.entry(HOLD)) == (70, 30, 60, 0)


def test_a_duplicate_in_the_same_transaction_is_detected(books: Books) -> None:
    first, second = books.account_book.apply([authorise(), authorise()])
    assert first == second
    assert len(books.statement()) == 1


@pytest.mark.parametrize("other", [authorise(minor=101), authorise(sale=True), void(KEY)])
def test_a_key_with_another_payload_is_refused_and_the_other_calls_of_its_transaction_are_made(
    books: Books, other: Request
) -> None:
    first, refused, last = books.account_book.apply([authorise(), other, capture(70)])
    assert isinstance(first, pb.CallResult)
    assert isinstance(refused, KeyReused)
    assert isinstance(last, pb.CallResult)
    assert amounts(books.entry(HOLD)) == (70, 30, 0, 0)


# Confirmation


def test_a_payment_that_needs_confirmation_holds_nothing_until_then(books: Books) -> None:
    pending = books.apply(authorise(method="card_action"))
    assert (pending.status, pending.hold) == (pb.STATUS_ACTION_REQUIRED, HOLD)
    assert HOLD in pending.action_url
    assert books.statement() == []
    assert books.apply(capture(70)).reason == "not confirmed"

    books.clock.now_ms += 500
    confirmed = books.apply(pb.ConfirmRequest(key=KEY))
    assert (confirmed.status, confirmed.capturable_until_ms) == (pb.STATUS_AUTHORISED, books.clock.now_ms + LIFE_MS)
    assert books.apply(authorise(method="card_action")) == confirmed
    assert books.apply(pb.LookUpRequest(key=KEY)) == confirmed
    assert books.apply(pb.ConfirmRequest(key=KEY)) == confirmed
    assert amounts(books.entry(HOLD)) == (0, 0, 0, 100)


def test_a_confirmed_sale_takes_the_money(books: Books) -> None:
    books.apply(authorise(method="wallet_action", sale=True))
    assert books.apply(pb.ConfirmRequest(key=KEY)).status == pb.STATUS_AUTHORISED
    assert amounts(books.entry(HOLD)) == (100, 0, 0, 0)


def test_a_voided_expired_or_other_call_can_not_be_confirmed(books: Books) -> None:
    books.apply(authorise(method="card_action"))
    assert books.apply(void()).amount_minor == 0
    books.apply(authorise("b:authorise:1", "card_action"))
    books.clock.now_ms += LIFE_MS
    for key in (KEY, "b:authorise:1", "a:void:1"):
        with pytest.raises(NotConfirmable):
            books.apply(pb.ConfirmRequest(key=key))
    with pytest.raises(NotFound):
        books.apply(pb.ConfirmRequest(key="unknown"))
    assert books.statement() == []


# Expiry


@pytest.mark.parametrize("call", [capture(70), void()])
def test_an_expired_hold_is_gone_and_counts_as_released(books: Books, call: Request) -> None:
    books.apply(authorise())
    books.clock.now_ms += LIFE_MS - 1
    assert amounts(books.entry(HOLD)) == (0, 0, 0, 100)
    books.clock.now_ms += 1
    assert amounts(books.entry(HOLD)) == (0, 100, 0, 0)
    assert books.apply(call).status == pb.STATUS_HOLD_GONE
    assert amounts(books.entry(HOLD)) == (0, 100, 0, 0)


def test_holds_live_seven_days_by_default(tmp_path: Path) -> None:
    book = AccountBook(tmp_path / "default.sqlite", lambda: START_MS)
    (held,) = book.apply([authorise()])
    book.close()
    assert isinstance(held, pb.CallResult)
    assert held.capturable_until_ms == START_MS + 7 * 24 * 3_600_000


# The file


def test_a_transaction_whose_amounts_do_not_add_up_is_rolled_back(books: Books) -> None:
    """The checks of the schema catch a defect of the rules, here a negative capture."""
    books.apply(authorise())
    entry = books.entry(HOLD)
    with pytest.raises(Exception, match="CHECK constraint failed"):
        books.account_book.apply([authorise("b:authorise:1"), capture(-1)])
    assert books.statement() == [entry]
    assert books.apply(capture(70)).status == pb.STATUS_CAPTURED


def test_a_file_that_is_no_account_book_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("Dear Sir or Madam, " * 100)
    with pytest.raises(AccountBookUnusable):
        AccountBook(path, lambda: START_MS)
