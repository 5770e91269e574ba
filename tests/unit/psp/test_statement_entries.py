"""Statement entries have the reference and the units that the merchant knows, for each wire."""

from __future__ import annotations

import pytest
from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from simulators.psp.accounts import holds
from simulators.psp.accounts.statement_entries import statement_entry


def hold(
    method: str, *, currency: str = "CNY", minor: int = 8_900, sale: bool = False, key: str = "o:sale:1"
) -> holds.Hold:
    request = pb.AuthoriseRequest(
        key=key, order="o", group="g", payment_method=method, amount_minor=minor, currency=currency, sale=sale
    )
    made, _ = holds.authorise(request, 0, 1_000)
    assert made is not None
    return made


def test_a_hold_of_its_own_wire_keeps_its_reference() -> None:
    one = hold("card_ok")
    entry = statement_entry(one)
    assert (entry.hold, entry.wire) == (one.hold, "simulated")
    assert (entry.order, entry.group, entry.authorised_minor, entry.open_minor) == ("o", "g", 8_900, 8_900)


def test_a_stripe_hold_is_a_payment_intent() -> None:
    one = hold("stripe/pm_card_ok")
    entry = statement_entry(one)
    assert (entry.hold, entry.wire) == ("pi_" + one.hold.removeprefix("hold_"), "stripe")


def test_a_wechat_payment_is_the_merchants_own_number() -> None:
    entry = statement_entry(hold("wechat/g/o/sale/1/payer", sale=True))
    assert (entry.hold, entry.wire) == ("o:sale:1", "wechat")
    assert (entry.captured_minor, entry.captures) == (8_900, 1)


@pytest.mark.parametrize(
    ("method", "currency", "provider_minor", "iso_minor"),
    [
        ("stripe/pm_card_ok", "JPY", 1_500, 1_500),
        ("stripe/pm_card_ok", "KWD", 12_340, 12_340),
        # Two decimals at Stripe and none in ISO 4217, and the reverse.
        ("stripe/pm_card_ok", "ISK", 150_000, 1_500),
        ("stripe/pm_card_ok", "MGA", 15, 1_500),
        ("card_ok", "ISK", 1_500, 1_500),
    ],
)
def test_amounts_are_in_the_minor_units_of_iso_4217(
    method: str, currency: str, provider_minor: int, iso_minor: int
) -> None:
    one = hold(method, currency=currency, minor=provider_minor)
    holds.capture(one, pb.CaptureRequest(key="c", hold=one.hold, amount_minor=provider_minor), 0)
    entry = statement_entry(one)
    assert (entry.authorised_minor, entry.captured_minor, entry.released_minor) == (iso_minor, iso_minor, 0)
