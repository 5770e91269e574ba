"""The data of a group on a share page. It holds no id of a customer or of an order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote

from groupbuy.groups.v1.groups_pb2 import Group, GroupState

from console.live.ladder import Ladder, ladder_of

_STATES = {
    GroupState.GROUP_STATE_FORMING: "forming",
    GroupState.GROUP_STATE_COMPLETED: "completed",
    GroupState.GROUP_STATE_EXPIRED: "expired",
    GroupState.GROUP_STATE_CANCELLED: "cancelled",
}


class Offer(NamedTuple):
    """One group."""

    #: groups/{group}
    name: str
    campaign: str
    product: str
    currency: str
    state: str
    members: int
    taken: int
    capacity: int
    left: int
    deadline_ms: int
    version: int
    ladder: Ladder


def offer_of(group: Group) -> Offer | None:
    """The offer of a group; None for a solo purchase."""
    terms = group.terms
    if not terms.tiers:
        return None
    tiers = [(tier.members, tier.unit_price_minor) for tier in terms.tiers]
    taken = max(group.confirmed_members, terms.capacity - group.seats_left)
    return Offer(
        group.name,
        group.campaign,
        terms.product,
        terms.currency,
        _STATES.get(group.state, "expired"),
        group.confirmed_members,
        taken,
        terms.capacity,
        group.seats_left,
        group.deadline_time.ToMilliseconds(),
        group.version,
        ladder_of(tiers, terms.solo_price_minor, terms.capacity, group.confirmed_members, taken),
    )


def join_address(template: str, offer: Offer, share_token: str) -> str:
    """The address in the shop that joins the group."""
    values: Mapping[str, str] = {"group": offer.name, "campaign": offer.campaign, "share_token": share_token}
    for name, value in values.items():
        template = template.replace(f"{{{name}}}", quote(value, safe=""))
    return template
