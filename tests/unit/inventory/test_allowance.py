"""An allowance admits orders within the limit and takes back those that ended without a purchase."""

from __future__ import annotations

import pytest
from groupbuy.inventory.v1.inbox_pb2 import AllowanceInput

from services.inventory.domain.allowance.decide import UnknownInput, decode
from tests.unit.inventory.items import Customer, asks


def test_orders_are_admitted_up_to_the_limit_over_all_groups() -> None:
    ann = Customer()
    ann.when(asks("g1", "a", cause=1))
    assert ann.lines == ["admitted a g1 1"]
    ann.when(asks("g2", "b", cause=2, partition=1))
    assert ann.lines == ["admitted b g2 1"]
    ann.when(asks("g3", "c", cause=3, partition=2))
    assert ann.lines == ["denied c g3 1"]


def test_an_order_that_ended_without_a_purchase_gives_its_pieces_back() -> None:
    ann = Customer()
    ann.when(asks("g1", "a", cause=1, quantity=2))
    ann.when(asks("g2", "b", cause=2))
    assert ann.lines == ["denied b g2 1"]
    ann.when(asks("g1", cause=5, returned=["a"]))
    assert ann.lines == ["returned a"]
    ann.when(asks("g2", "c", cause=6))
    assert ann.lines == ["admitted c g2 1"]


def test_a_repeat_changes_nothing() -> None:
    ann = Customer()
    ann.when(asks("g1", "a", cause=4))
    ann.when(asks("g1", cause=5, returned=["a"]))
    ann.when(asks("g1", "a", cause=4))
    assert ann.lines == []
    assert ann.state.pieces == 0


def test_a_return_before_its_request_was_denied_changes_nothing() -> None:
    ann = Customer()
    ann.when(asks("g1", cause=4, returned=["nobody"]))
    assert ann.lines == []


def test_an_error_in_the_rules_denies_the_orders_that_ask() -> None:
    ann = Customer()
    command = decode(asks("g1", "a", cause=1).SerializeToString())
    kinds = [event.WhichOneof("body") for event in ann.domain.faulted(ann.state, command, "KeyError")]
    assert kinds == ["faulted", "heard", "denied"]


def test_an_error_in_the_rules_on_a_repeat_is_not_answered_again() -> None:
    ann = Customer()
    request = asks("g1", "a", cause=1)
    ann.when(request)
    repeat = decode(request.SerializeToString())
    kinds = [event.WhichOneof("body") for event in ann.domain.faulted(ann.state, repeat, "KeyError")]
    assert kinds == ["faulted"]


def test_an_input_of_a_newer_build_is_not_skipped() -> None:
    with pytest.raises(UnknownInput):
        decode(AllowanceInput().SerializeToString())
