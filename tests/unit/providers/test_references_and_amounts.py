"""Numbers and amounts in the providers' formats. Method: plain calls, and properties over many values."""

from __future__ import annotations

import re
import uuid

import pytest
from groupbuy.payments.v1 import decisions_pb2 as d
from groupbuy.payments.v1.decisions_pb2 import ProviderCall
from hypothesis import given
from hypothesis import strategies as st

from services.payments.providers.stripe.amounts import NotRepresentable, from_stripe, to_stripe
from services.payments.providers.wechat import references as refs
from simulators.psp.stripe.currencies import to_iso_minor

GROUP, ORDER = str(uuid.UUID(int=1)), str(uuid.UUID(int=2**128 - 1))


def call(order: str = ORDER, operation: d.Operation.ValueType = d.OPERATION_SALE, attempt: int = 1) -> ProviderCall:
    return ProviderCall(order=order, operation=operation, attempt=attempt)


@pytest.mark.parametrize(
    ("minor", "currency", "amount"),
    [
        (8900, "CNY", 8900),
        (50, "JPY", 50),
        (12_340, "KWD", 12_340),
        (5, "ISK", 500),
        (500, "MGA", 5),
        (99_999_999, "EUR", 99_999_999),
    ],
)
def test_amounts_are_converted_to_stripes_units_and_back(minor: int, currency: str, amount: int) -> None:
    assert to_stripe(minor, currency) == amount
    assert from_stripe(amount, currency) == to_iso_minor(amount, currency) == minor


@pytest.mark.parametrize(
    ("minor", "currency", "reason"),
    [
        (12_345, "KWD", r"multiples of 0\.010, not 12\.345"),
        (150, "MGA", r"multiples of 1\.00"),
        (0, "EUR", "above 0"),
        (-1, "EUR", "above 0"),
        (49, "EUR", r"from 0\.50 EUR, not 0\.49"),
        (49, "JPY", "from 50 JPY"),
        (100_000_000, "EUR", r"up to 999,999\.99 EUR"),
        (1_000_000, "ISK", "up to 999,999 ISK"),
        (100, "GHS", "does not take GHS"),
    ],
)
def test_an_amount_that_stripe_can_not_represent_is_refused_with_the_reason(
    minor: int, currency: str, reason: str
) -> None:
    with pytest.raises(NotRepresentable, match=reason):
        to_stripe(minor, currency)


def test_a_part_of_a_charge_may_be_below_the_smallest_charge() -> None:
    assert to_stripe(1, "EUR", part=True) == 1
    with pytest.raises(NotRepresentable, match="multiples"):
        to_stripe(5, "KWD", part=True)


@given(st.uuids(), st.sampled_from([d.OPERATION_SALE, d.OPERATION_REFUND]), st.integers(1, 10**6))
def test_wechat_numbers_are_valid_and_derived_from_the_call(order: uuid.UUID, operation: int, attempt: int) -> None:
    one = call(str(order), operation, attempt)  # type: ignore[arg-type]
    for number, most in ((refs.trade_number(one), 32), (refs.refund_number(one, GROUP), 64)):
        assert 6 <= len(number) <= most
        assert re.fullmatch(r"[0-9A-Za-z_\-|*@]+", number)
    assert refs.trade_number(one) == refs.trade_number(call(str(order), operation, attempt))  # type: ignore[arg-type]
    assert refs.trade_number(one) != refs.trade_number(call(str(order), operation, attempt + 1))  # type: ignore[arg-type]


@given(st.uuids(), st.uuids(), st.integers(1, 10**6))
def test_a_refund_number_contains_its_order(group: uuid.UUID, order: uuid.UUID, attempt: int) -> None:
    number = refs.refund_number(call(str(order), d.OPERATION_REFUND, attempt), str(group))
    assert refs.of_refund_number(number) == refs.Reference(str(group), str(order), attempt)


def test_ids_that_are_no_uuids_are_hashed_and_give_no_reference() -> None:
    number = refs.refund_number(call("a" * 100, d.OPERATION_REFUND), "g")
    assert len(number) == 64
    assert refs.of_refund_number(number) is None
    assert refs.trade_number(call("short")) == "short*sale*1"
    assert refs.refund_number(call(ORDER.upper(), d.OPERATION_REFUND), GROUP) != refs.refund_number(
        call(ORDER, d.OPERATION_REFUND), GROUP
    )


def test_an_attachment_contains_its_order_and_is_valid() -> None:
    text = refs.attach(call(attempt=999_999), GROUP)
    assert len(text) <= 128
    assert refs.of_attach(text) == refs.Reference(GROUP, ORDER, 999_999)
    longest = "e" * 32
    named = refs.attach(call(attempt=999_999), GROUP, longest)
    assert len(named) <= 128
    assert refs.of_attach(named) == refs.Reference(GROUP, ORDER, 999_999, longest)


def test_a_refund_number_contains_the_mark_of_its_deployment() -> None:
    number = refs.refund_number(call(ORDER, d.OPERATION_REFUND, 999_999_999), GROUP, "e" * 32)
    assert len(number) <= 64
    assert refs.of_refund_number(number) == refs.Reference(GROUP, ORDER, 999_999_999, refs.mark_of("e" * 32))
    assert len({refs.mark_of(name) for name in ("", "production", "staging")}) == 3


def test_the_text_of_another_system_is_no_attachment() -> None:
    assert refs.of_attach("somebody else's") is None
