"""The sums of one hold, as the audit adds them up."""

from __future__ import annotations

from ops.audit.money.holds import Hold


def kept_funds() -> Hold:
    """A hold with 500 of unexpected funds that an operator assigned to the merchant."""
    return Hold("orders/o", 500, "CNY", captured=500, unexpected=500, suspense_kept=500)


def test_a_return_by_hand_takes_from_the_funds_that_were_kept() -> None:
    hold = kept_funds()
    hold.own_refunds = 200
    hold.give_back_kept()
    assert (hold.suspense_kept, hold.merchants) == (300, 0)


def test_a_return_that_comes_back_is_kept_again() -> None:
    hold = kept_funds()
    hold.own_refunds = 500
    hold.give_back_kept()
    assert (hold.suspense_kept, hold.merchants) == (0, 0)
    hold.own_refunds = 300
    hold.keep_again(200)
    assert (hold.suspense_kept, hold.merchants) == (200, 0)


def test_a_return_out_of_the_charge_leaves_the_funds_that_were_kept() -> None:
    hold = Hold("orders/o", 900, "CNY", captured=900, kept=400, unexpected=500, suspense_kept=500)
    hold.charge_refunds = 400
    hold.give_back_kept()
    assert (hold.suspense_kept, hold.merchants) == (500, 400)


def test_nothing_is_kept_again_that_was_not_given_back() -> None:
    hold = kept_funds()
    hold.keep_again(100)
    assert (hold.suspense_kept, hold.merchants) == (500, 0)
