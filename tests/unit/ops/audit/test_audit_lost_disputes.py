"""The audit allots lost disputes: first to what may not be kept, then to the charge."""

from __future__ import annotations

from ops.audit.money.holds import Hold


def sale(kept: int = 0, own_refunds: int = 0) -> Hold:
    """A sale of 100."""
    return Hold("o1", 100, "CNY", sale=True, captured=100, kept=kept, own_refunds=own_refunds)


def test_a_lost_dispute_returns_the_difference_to_the_price_first() -> None:
    hold = sale(kept=80)
    hold.lose(50)
    assert (hold.own_refunds, hold.charge_refunds, hold.merchants) == (20, 30, 80)


def test_a_lost_dispute_takes_the_place_of_a_refund_that_comes_back() -> None:
    hold = sale(kept=80, own_refunds=20)
    hold.lose(50)
    assert (hold.charge_refunds, hold.merchants) == (50, 80)
    hold.own_refunds = 0
    hold.cover()
    assert (hold.charge_refunds, hold.merchants) == (30, 80)


def test_a_dispute_that_is_lost_before_the_charge_reduces_it_later() -> None:
    hold = sale()
    hold.lose(50)
    assert hold.merchants == 50
    hold.kept = 80
    assert hold.charge_back(by_hand=False) == 0
    assert (hold.charge_refunds, hold.merchants) == (30, 80)


def test_persons_return_the_rest() -> None:
    hold = sale(own_refunds=40)
    hold.lose(10)
    hold.kept = 80
    assert hold.charge_back(by_hand=True) == 20
    assert (hold.charge_refunds, hold.merchants) == (30, 80)


def test_a_dispute_after_a_complete_refund_owes_nothing_more() -> None:
    hold = sale(own_refunds=100)
    hold.lose(100)
    assert hold.merchants == 0
    hold.own_refunds = 0
    hold.cover()
    assert hold.merchants == 0
