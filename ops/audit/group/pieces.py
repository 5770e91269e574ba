"""The books of one group about its pieces and allowances, as the audit keeps them. Rules version 2."""

from __future__ import annotations

from msgspec import Struct, field


class Sent(Struct, array_like=True, gc=False):
    """The pieces that one decision of a group requests from its stock item and returns to it."""

    at_least: int = 0
    wanted: int = 0
    at_most: int = 0
    queue: bool = False
    returned: int = 0
    sold: int = 0
    closed: bool = False


class Supply(Struct, array_like=True, gc=False):
    """The pieces of one group. Sums are in pieces since the group opened."""

    granted: int = 0
    returned: int = 0
    sold: int = 0
    #: Pieces of reserved and confirmed seats, and of charged members that are not reported yet.
    seated: int = 0
    unreported: int = 0
    #: Whether a request has no final answer, whether there ever was one, and whether the group asks for no more.
    asked: bool = False
    ever_asked: bool = False
    closed: bool = False
    #: Version of the stock item's last answer.
    stock_version: int = 0
    #: Orders that wait for their admission.
    admitting: dict[str, None] = field(default_factory=dict)
    #: Customers of ended orders whose allowance is not given back yet, by order.
    to_return: dict[str, str] = field(default_factory=dict)
    #: Decisions that concern the stock item, by cause, and pieces granted, by the version of the stock item's decision.
    #: Kept where the inbox is read, too, for the comparison with the stock item's log.
    sent: dict[int, Sent] = field(default_factory=dict)
    grants: dict[int, int] = field(default_factory=dict)

    @property
    def idle(self) -> int:
        """Pieces of the group that are in no seat."""
        return self.granted - self.returned - self.sold - self.seated - self.unreported

    @property
    def held(self) -> int:
        """Pieces of the group."""
        return self.granted - self.returned - self.sold
