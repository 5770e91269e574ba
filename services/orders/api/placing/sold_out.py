"""Refuses orders early that would open groups of a sold-out stock item.

This only saves work: the stock item alone decides who gets its pieces. The hint can be stale, so one order for each
stock item passes in PROBE_S. A stale hint therefore slows a sale down until the next offer, and does not end it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from groupbuy.groups.v1.campaigns_pb2 import Campaign
from groupbuy.inventory.v1.decisions_pb2 import OFFER_STATE_ENDED, OFFER_STATE_SOLD_OUT

from services.orders.api.errors import sold_out
from shared_kernel.offer_table import FindsOffers

#: Seconds in which one order for a sold-out stock item passes.
PROBE_S = 1.0
_NOTHING_LEFT = frozenset({OFFER_STATE_SOLD_OUT, OFFER_STATE_ENDED})


class SoldOutCheck:
    """The check of orders that open groups."""

    def __init__(self, offers: FindsOffers | None, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        """Without `offers`, every order passes."""
        self._offers = offers
        self._monotonic_s = monotonic_s
        #: When the next order passes, by stock item.
        self._probe_at_s: dict[str, float] = {}

    def check(self, campaign: Campaign) -> None:
        """Raises ApiError SOLD_OUT. Groups with a waitlist stand in line for pieces that come back, so they pass."""
        if self._offers is None or not campaign.stock or campaign.waitlist:
            return
        stock = campaign.stock.removeprefix("stocks/")
        offer = self._offers.find(stock)
        if offer is None or offer.state not in _NOTHING_LEFT:
            return
        now_s = self._monotonic_s()
        if now_s >= self._probe_at_s.get(stock, 0.0):
            self._probe_at_s[stock] = now_s + PROBE_S
            return
        raise sold_out(campaign.name, campaign.stock, offer.version)
