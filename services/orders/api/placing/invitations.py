"""Share tokens of orders: verifies a token once and turns it into the invitation of the order's fact.

A link lets its bearer see and join a group, no more. A retry of a placed order is not checked again.
"""

from __future__ import annotations

from collections.abc import Callable

from groupbuy.links.v1.links_pb2 import Invitation
from groupbuy.orders.v1.orders_pb2 import PlaceOrderRequest

from services.orders.domain.ids import campaign_of, group_of
from shared_kernel.share_links.share_link_api import invitation, link_refused, links_not_configured
from shared_kernel.share_links.share_link_token import Keys, LinkRefused, Verified, require, require_unexpired

#: Verified tokens in the cache: one link shown in a live room brings thousands of orders.
_MAX_CACHED = 1_000


class Invitations:
    """Checks the share tokens of orders."""

    def __init__(self, keys: Keys, now_ms: Callable[[], int]) -> None:
        self._keys = keys
        self._now_ms = now_ms
        self._verified: dict[str, Verified] = {}

    def check(self, request: PlaceOrderRequest) -> None:
        """Raises ApiError if the order's link is invalid or is for another group or campaign."""
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

    def invitation_of(self, request: PlaceOrderRequest) -> Invitation | None:
        """The invitation of a checked order, or None if it came without a link."""
        if not request.share_link:
            return None
        return invitation(self._verify(request.share_link))

    def _verify(self, token: str) -> Verified:
        found = self._verified.get(token)
        if found is None:
            found = self._keys.verify(token)
            if len(self._verified) >= _MAX_CACHED:
                self._verified.clear()
            self._verified[token] = found
        return found
