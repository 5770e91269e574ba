"""Share links at the edge: a token that comes with an order is checked once, and becomes the fact's invitation.

Must never ask a link for more than its bearer's right to look and to join, nor look at one again for a retry.
"""

from __future__ import annotations

from collections.abc import Callable

from groupbuy.links.v1.links_pb2 import Invitation
from groupbuy.orders.v1.orders_pb2 import PlaceOrderRequest

from services.orders.domain.ids import campaign_of, group_of
from shared_kernel.share_link_api import invitation, link_refused, links_not_configured
from shared_kernel.share_links import Keys, LinkRefused, Verified, require, require_unexpired

#: Tokens whose signature held lately: one link shown in a live room brings thousands of orders.
_REMEMBERED = 1_000


class Invitations:
    """Checks the links of orders."""

    def __init__(self, keys: Keys, now_ms: Callable[[], int]) -> None:
        self._keys = keys
        self._now_ms = now_ms
        self._verified: dict[str, Verified] = {}

    def check(self, request: PlaceOrderRequest) -> None:
        """Raises ApiError where a link came with the order and does not open what the order is for."""
        if not request.share_link:
            return
        if not self._keys:
            raise links_not_configured("GROUPBUY_ORDERS_LINK_KEYS")
        try:
            link = self._verify(request.share_link).link
            require_unexpired(link, self._now_ms() // 1_000)
            require(link, campaign=campaign_of(request.campaign), group=group_of(request.group))
        except LinkRefused as refused:
            raise link_refused(refused, "share_link") from None

    def of(self, request: PlaceOrderRequest) -> Invitation | None:
        """What the link of a checked order says; None: it came by none."""
        if not request.share_link:
            return None
        return invitation(self._verify(request.share_link))

    def _verify(self, token: str) -> Verified:
        found = self._verified.get(token)
        if found is None:
            found = self._keys.verify(token)
            if len(self._verified) >= _REMEMBERED:
                self._verified.clear()
            self._verified[token] = found
        return found
