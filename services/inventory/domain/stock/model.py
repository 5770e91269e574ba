"""State of one stock item: the fold of its decisions. Only `evolve` changes it.

Every piece is in one place: free, leased to a group, or sold. A piece leaves the free stock before a group has it, and
leaves the group's books before it is free again, so a late, lost or repeated message can only make fewer available.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
from groupbuy.inventory.v1.decisions_pb2 import OFFER_STATE_UNSPECIFIED, OfferState

DEFAULT_LEASE_DIVISOR = 8


class Lease(msgspec.Struct, array_like=True, gc=False):
    """The pieces of one group."""

    #: Pieces that the group has: in seats, free in the group, or on the way to it or back.
    units: int = 0
    #: Whether the group asks for no more pieces.
    closed: bool = False


@dataclass(slots=True)
class StockItem:
    """One stock item. All numbers are 0 until it is created."""

    #: Its id.
    key: str = ""
    #: Number of edits so far; 0: not created.
    revision: int = 0
    display_name: str = ""
    #: Pieces.
    total: int = 0
    lease_divisor: int = DEFAULT_LEASE_DIVISOR
    archived: bool = False
    #: Times of creation and of the last decision, in milliseconds since the epoch.
    created_ms: int = 0
    updated_ms: int = 0
    #: Pieces of charged members.
    sold: int = 0
    #: Pieces of all leases.
    leased: int = 0
    #: By group. A group without pieces that asks for no more is not here.
    leases: dict[str, Lease] = field(default_factory=dict)
    #: Leases that are not closed.
    open_leases: int = 0
    #: Groups that wait for pieces, first come first served, with the pieces that each needs at least.
    line: dict[str, int] = field(default_factory=dict)
    #: Greatest cause that was heard from each partition of the groups' log.
    heard: dict[int, int] = field(default_factory=dict)
    #: Results of the last commands by request id: 0, or a CommandRefusal.
    commands: dict[str, int] = field(default_factory=dict)
    #: The offer as it was last announced.
    offer: OfferState.ValueType = OFFER_STATE_UNSPECIFIED

    @property
    def free(self) -> int:
        """Pieces that can be leased."""
        return self.total - self.sold - self.leased
