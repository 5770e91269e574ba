"""Faults around money: a provider that fails, is slow or is away, movements outside the API, and holds that lapse."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

from groupbuy.orders.v1 import orders_pb2 as pb
from groupbuy.payments.v1.payments_pb2 import RefundPaymentRequest
from groupbuy.simprovider.v1.simprovider_pb2 import AuthoriseRequest, CaptureRequest

from devstack.product import PROVIDER
from tests.drills.drill import Variables, drill
from tests.drills.site import Site
from tests.integration.shop import CALL_S, Shop, pause, until

HOUR_MS = 3_600_000
#: Every call fails before it has an effect.
ALL_FAIL = 1_000


@drill("GroupbuyHoldsNearLapse", "GroupbuyProviderTermsDiffer")
def short_hold_that_is_not_voided(site: Site) -> Iterator[Variables]:
    """The provider grants a hold of an hour, which the group refuses as too short, and then fails to void it."""
    shop = site.shop
    campaign = shop.campaign(capacity=2, tiers=((2, 8_900),), window_s=600.0, hold_s=300.0)
    try:
        # The answer may follow the hold at once, so the void may come before the provider fails.
        until(lambda: _hold_without_void(shop, campaign), 120.0)
        yield {}
    finally:
        shop.behave()
        shop.cancel_open_groups(campaign)


def _hold_without_void(shop: Shop, campaign: str) -> bool:
    """Places an order and has the provider fail once it has the hold. Returns whether the hold stays open."""
    # A second, on average, passes from the hold to its answer.
    late = {
        "latency_min_ms": 2_000,
        "latency_max_ms": 2_000,
        "notify_late_ms": 3_000,
        "notify_late_per_mille": ALL_FAIL,
    }
    shop.behave(hold_life_ms=HOUR_MS, **late)
    order = shop.place(campaign, wait=pb.WAIT_ACCEPTED)
    until(lambda: bool(shop.holds([order])))
    shop.behave(hold_life_ms=HOUR_MS, fail_before_per_mille=ALL_FAIL)
    shop.wait(order, "RELEASED")
    pause(1.0)
    return all(hold.open_minor for hold in shop.holds([order]))


@drill("GroupbuyProviderSlow")
def provider_slow(site: Site) -> Iterator[Variables]:
    """Every call of the provider takes 3 s."""
    site.shop.behave(latency_min_ms=3_000, latency_max_ms=3_000)
    try:
        yield {}
    finally:
        site.shop.behave()


@drill("GroupbuyReconciliationDiffers")
def movement_outside_the_api(site: Site) -> Iterator[Variables]:
    """Somebody charges a shopper directly at the provider. Healed by `reconcile --feed`, as the runbook says."""
    order, *_ = _settled(site.shop)
    hold = _charge_outside(site.shop, order)
    try:
        yield {}
    finally:
        _feed(site)
        _return(site, order, hold)


@drill(
    "GroupbuyProviderFailing",
    "GroupbuyProviderCircuitOpen",
    "GroupbuySuspense",
    "GroupbuyRefundsOwed",
    "GroupbuyGroupsUnsettled",
    "GroupbuyReconciliationMissing",
    fires_within_s=120.0,
    ends_within_s=90.0,
)
def provider_away(site: Site) -> Iterator[Variables]:
    """The provider fails and is then stopped, with captures, a refund and the return of unexpected funds pending."""
    shop = site.shop
    refunded, charged, *_ = _settled(shop)
    closing = shop.campaign(capacity=5, tiers=((2, 8_900),), window_s=6.0, hold_s=5.0, at_deadline=True)
    shop.wait_all(shop.full_group(closing, 2), "CONFIRMED")
    hold = _charge_outside(shop, charged)
    shop.behave(fail_before_per_mille=ALL_FAIL)
    _feed(site)
    request = RefundPaymentRequest(name=f"{refunded}/payment", request_id=str(uuid4()))
    shop.payments.RefundPayment(request, timeout=CALL_S)
    assert site.observer.wait_fired("GroupbuyProviderFailing", timeout_s=30), "the provider does not fail"
    site.stack.stop_service(PROVIDER)
    try:
        yield {}
    finally:
        site.stack.start_service(PROVIDER)
        site.stack.wait_serving(PROVIDER)
        shop.behave()
        _return(site, charged, hold)


def _settled(shop: Shop) -> list[str]:
    """The names of two orders of a settled group."""
    orders = shop.full_group(shop.campaign(capacity=2, tiers=((2, 8_900),)), 2)
    return [order.name for order in shop.wait_all(orders, "SETTLED")]


def _charge_outside(shop: Shop, order: str) -> str:
    """Holds and captures money at the provider for an order, without our services. Returns the hold."""
    _, group, _, identifier = order.split("/")
    request = AuthoriseRequest(
        key=str(uuid4()), order=identifier, group=group, payment_method="card_ok", amount_minor=700, currency="CNY"
    )
    hold = shop.provider.Authorise(request, timeout=CALL_S).hold
    shop.provider.Capture(CaptureRequest(key=str(uuid4()), hold=hold, amount_minor=700), timeout=CALL_S)
    return hold


def _feed(site: Site) -> None:
    code, text = site.run('groupbuy-ops reconcile --provider "$PROVIDER" --wait 0 --feed')
    assert code in {0, 1}, text


def _return(site: Site, order: str, hold: str) -> None:
    """Returns unexpected funds now, as the runbook says: by themselves they return after an hour."""
    code, text = site.run(f'groupbuy-ops repair approve-return {order}/payment --hold {hold} --reason "drill"')
    assert code == 0, text
