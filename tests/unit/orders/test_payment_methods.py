"""An order's payment method needs a provider of the installation that can take its amounts. Method: plain requests, and
an orders servicer with an in-memory broker for the error that a caller gets."""

from __future__ import annotations

import pytest
from groupbuy.errors.v1 import errors_pb2
from groupbuy.groups.v1.campaigns_pb2 import Campaign, Tier
from groupbuy.orders.v1.orders_pb2 import PlaceOrderRequest

from chassis.rpc.errors import ApiError
from services.orders.api.orders import OrderServicer
from services.orders.api.placing.payment_methods import PaymentMethods
from tests.unit.orders.world import TIME_MS, World

REAL = PaymentMethods(("stripe", "wechat"))
DAY_S = 86_400


def request(method: str, **fields: object) -> PlaceOrderRequest:
    return PlaceOrderRequest(payment_method=method, quantity=1, **fields)  # type: ignore[arg-type]


def campaign(currency: str = "EUR", prices: tuple[int, ...] = (9_000, 8_000), days: float = 1.0) -> Campaign:
    made = Campaign(currency=currency, solo_price_minor=prices[0] + 1_000)
    made.tiers.extend(Tier(members=2 + index, unit_price_minor=price) for index, price in enumerate(prices))
    made.window.FromSeconds(int(days * DAY_S))
    return made


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("pm_1NirD82eZvKYlo2C", "…lo2C belongs to no payment provider here"),
        ("paypal_x", "belongs to no payment provider here"),
        ("", "belongs to no payment provider here"),
        # The simulated provider exists only where a setting names it.
        ("card_ok", "card_… belongs to no payment provider here"),
        ("wallet_ok", "begins with one of stripe_, wallet_stripe_, wallet_wechat_, wechat_"),
        ("wechat_o1", "wechat can't hold money: its payment methods begin with wallet_wechat_"),
    ],
)
def test_a_method_without_a_provider_of_the_installation_is_refused(method: str, reason: str) -> None:
    with pytest.raises(ApiError, match="payment_method") as refused:
        REAL.check(request(method))
    assert refused.value.reason == errors_pb2.ERROR_REASON_INVALID_FIELDS
    ((field, problem),) = refused.value.fields
    assert field == "payment_method"
    assert reason in problem


def test_the_simulated_provider_is_accepted_where_it_is_named() -> None:
    assert PaymentMethods(("simulated",)).check(request("card_ok")).provider == "simulated"


@pytest.mark.parametrize(
    ("method", "offer", "reason"),
    [
        ("stripe_pm_x", campaign("KWD", (9_000, 7_995)), "multiples of 0.010, not 7.995"),
        ("stripe_pm_x", campaign("EUR", (9_000, 40)), "from 0.50 EUR"),
        ("stripe_pm_x", campaign("GHS"), "does not take GHS"),
        ("stripe_pm_x", campaign(days=5 + 20 / 24), "may end before the group is settled"),
        ("wallet_wechat_native", campaign("EUR"), "takes CNY alone, not EUR"),
    ],
)
def test_an_order_that_opens_a_group_needs_a_provider_that_can_take_every_price(
    method: str, offer: Campaign, reason: str
) -> None:
    with pytest.raises(ApiError) as refused:
        REAL.check_opening(request(method), offer)
    assert reason in refused.value.message


def test_an_order_that_the_provider_can_take_is_accepted() -> None:
    REAL.check_opening(request("stripe_pm_x"), campaign("KWD", (9_000, 8_000)))
    REAL.check_opening(request("wallet_stripe_pm_x"), campaign(days=5.5))
    REAL.check_opening(request("wallet_wechat_native"), campaign("CNY", days=5.9))
    # A solo purchase is charged at the solo price alone, and settled at once.
    REAL.check_opening(request("stripe_pm_x", solo=True), campaign("EUR", (9_000, 40), days=5.9))
    REAL.check_joining(request("stripe_pm_x"), "EUR")
    with pytest.raises(ApiError, match="CNY alone"):
        REAL.check_joining(request("wallet_wechat_native"), "EUR")


async def test_place_order_refuses_an_unknown_prefix_and_writes_nothing() -> None:
    world = World()
    world.orders = OrderServicer(world, world.campaigns, world, now_ms=lambda: TIME_MS, providers=("stripe",))
    with pytest.raises(ApiError) as refused:
        await world.place(payment_method="pm_1NirD82eZvKYlo2C")
    assert [field for field, _ in refused.value.fields] == ["payment_method"]
    assert "pm_1Nir" not in refused.value.message
    assert world.records == []
