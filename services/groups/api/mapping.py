"""Maps a group's state to the messages of the API. It does not change the state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from google.protobuf.timestamp_pb2 import Timestamp
from groupbuy.groups.v1 import decisions_pb2
from groupbuy.groups.v1.campaigns_pb2 import FAILED_CAPTURE_POLICY_KEEP_PRICE
from groupbuy.groups.v1.groups_pb2 import (
    GROUP_STATE_CANCELLED,
    GROUP_STATE_COMPLETED,
    GROUP_STATE_EXPIRED,
    GROUP_STATE_FORMING,
    MEMBER_STATE_CONFIRMED,
    MEMBER_STATE_DECLINED,
    MEMBER_STATE_RELEASED,
    MEMBER_STATE_RESERVED,
    MEMBER_STATE_SETTLED,
    MEMBER_STATE_WAITLISTED,
    Group,
    GroupState,
    Member,
    MemberState,
)

from eventlog.core.aggregate import Aggregate
from services.groups.domain.model import OrderStatus, Phase, State
from services.groups.domain.pricing import kept_price_cost, tier_at
from services.groups.domain.terms import Terms
from shared_kernel.consistency_tokens import of_group

PHASES: Mapping[Phase, GroupState.ValueType] = {
    Phase.FORMING: GROUP_STATE_FORMING,
    Phase.COMPLETED: GROUP_STATE_COMPLETED,
    Phase.EXPIRED: GROUP_STATE_EXPIRED,
    Phase.CANCELLED: GROUP_STATE_CANCELLED,
}
#: Final states of members. An order that left before the group closed is not a member.
FINAL_STATES: Mapping[OrderStatus, MemberState.ValueType] = {
    OrderStatus.SETTLED: MEMBER_STATE_SETTLED,
    OrderStatus.CAPTURE_DECLINED: MEMBER_STATE_DECLINED,
    OrderStatus.RELEASED: MEMBER_STATE_RELEASED,
}


def group_message(aggregate: Aggregate[State], terms: Terms, *, members: bool = True) -> Group:
    """The message of an opened group with these terms. Lists omit the members."""
    state = aggregate.state
    forming = state.phase is Phase.FORMING
    confirmed = len(state.confirmed) if forming else state.members
    return Group(
        name=f"groups/{aggregate.key}",
        campaign=f"campaigns/{terms.campaign}",
        state=PHASES[state.phase],
        terms=_terms(terms),
        leader_order=f"groups/{aggregate.key}/orders/{state.leader}" if state.leader else "",
        create_time=_timestamp(state.opened_ms),
        deadline_time=_timestamp(state.deadline_ms),
        confirmed_members=confirmed,
        seats_left=state.seats_left,
        unit_price_minor=state.unit_price_minor or _price(terms, confirmed),
        next_tier_members=_next_tier(terms, confirmed) if forming else 0,
        members=_members(aggregate.key, state) if members else (),
        version=aggregate.version,
        settled=state.is_done,
        update_time=_timestamp(aggregate.time_ms),
        consistency_token=of_group(aggregate.key, aggregate.version),
        sold_out=state.supply is not None and state.supply.sold_out,
        declined_members=state.declined,
        kept_price_cost_minor=_kept_price_cost(state, terms),
        orders_owed=len({key.partition(" ")[0] for key in state.owed}),
        house_filled=state.phase is Phase.COMPLETED and bool(terms.tiers) and state.members < terms.tiers[0].members,
    )


def _kept_price_cost(state: State, terms: Terms) -> int:
    """The loss of the merchant because captures failed; 0 while captures are pending."""
    if not state.declined or state.confirmed:
        return 0
    return kept_price_cost(terms, state.unit_price_minor, state.settled, state.charged_pieces)


def _terms(terms: Terms) -> decisions_pb2.Terms:
    """The frozen terms, with the resource name of their campaign, of which the log has the id, and the default of the
    policy for failed captures."""
    message = decisions_pb2.Terms.FromString(terms.raw)
    message.campaign = f"campaigns/{terms.campaign}"
    message.failed_capture_policy = message.failed_capture_policy or FAILED_CAPTURE_POLICY_KEEP_PRICE
    return message


def _price(terms: Terms, members: int) -> int:
    tier = tier_at(terms, members)
    return tier.unit_price_minor if tier else terms.entry_price_minor


def _next_tier(terms: Terms, members: int) -> int:
    return next((tier.members for tier in terms.tiers if tier.members > members), 0)


def _members(group: str, state: State) -> Iterator[Member]:
    """Members in the order of confirmation, then other orders with a place. An ended order has its final state only."""
    prefix = f"groups/{group}/orders/"
    for held, member_state in ((state.confirmed, MEMBER_STATE_CONFIRMED), (state.reserved, MEMBER_STATE_RESERVED)):
        for order, seat in held.items():
            yield Member(order=prefix + order, customer=seat.customer, quantity=seat.quantity, state=member_state)
    admitting = {} if state.supply is None else state.supply.admitting
    for order, entry in (*state.waitlist.items(), *admitting.items()):
        yield Member(
            order=prefix + order,
            customer=entry.customer,
            quantity=entry.quantity,
            state=MEMBER_STATE_WAITLISTED,
        )
    for order in state.ended:
        final_state = FINAL_STATES.get(state.status(order))
        if final_state is not None:
            yield Member(order=prefix + order, state=final_state)


def _timestamp(time_ms: int) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromMilliseconds(time_ms)
    return timestamp
