"""The auditor's fold of one group: which event may follow which, derived from the documented guarantees.

It shares no code with the rules or with evolve, counts prices and members independently, and does not read the state of
the product.
"""

from __future__ import annotations

from groupbuy.groups.v1 import decisions_pb2 as pb
from groupbuy.groups.v1.campaigns_pb2 import CLOSE_POLICY_AT_DEADLINE

from tests.simulation.audit.order import LIVE, Order
from tests.simulation.audit.seats import SeatAudit


class GroupAudit(SeatAudit):
    """One group."""

    # The group ---------------------------------------------------------------------------------------------------

    def _opened(self, event: pb.GroupOpened) -> None:
        self.check(self.phase == "NONE", "opened twice")
        campaign, terms = self._campaign, event.terms
        assert campaign is not None, "opened without a campaign"
        self.check(terms.solo or list(terms.tiers) == list(campaign.tiers), "other tiers than the campaign's")
        self.check(terms.capacity == (1 if terms.solo else campaign.capacity), "another capacity than the campaign's")
        self.check(terms.solo_price_minor == campaign.solo_price_minor, "another solo price than the campaign's")
        self.check(terms.rules_version > 0, "no rules_version")
        self.check(not campaign.archived, "opened of an archived campaign")
        self.check(event.deadline_ms == self.time_ms + terms.window_ms, "another deadline than its window gives")
        self.phase = "FORMING"
        self.terms = terms
        self.deadline_ms = event.deadline_ms
        self.leader = event.leader_order

    def _leader_changed(self, event: pb.LeaderChanged) -> None:
        first = next(iter(self.confirmed), "")
        self.check(event.order == first, f"{event.order} leads, though {first} is the earliest member")
        self.leader = event.order

    def _tier_reached(self, event: pb.TierReached) -> None:
        tier = self._terms().tiers[self.tiers_announced]
        self.check(
            (tier.members, tier.unit_price_minor) == (event.members, event.unit_price_minor), "not the next tier"
        )
        self.check(len(self.confirmed) >= tier.members, "announced a tier that is not reached")
        self.tiers_announced += 1

    def _completed(self, event: pb.GroupCompleted) -> None:
        self.check(self.phase == "FORMING", f"completed after {self.phase}")
        terms, members = self._terms(), len(self.confirmed)
        self.check(list(event.orders) == list(self.confirmed), "completed with others than its confirmed members")
        reached = [tier for tier in terms.tiers if tier.members <= members]
        if terms.solo:
            price = terms.solo_price_minor
            self.check(members == 1, "a solo purchase without its order")
        elif reached:
            price = min(tier.unit_price_minor for tier in reached)
            self.check(not event.house_filled, "virtual completion though a tier is reached")
        else:
            price = terms.tiers[0].unit_price_minor
            self.check(event.house_filled, f"completed with {members}, below its first tier")
            self.check(0 < terms.house_fill_members <= members, "virtual completion against its terms")
        self.check(event.unit_price_minor == price, f"completed at {event.unit_price_minor}, its tier has {price}")
        at_deadline = self.time_ms >= self.deadline_ms
        full = members == terms.capacity and terms.close_policy != CLOSE_POLICY_AT_DEADLINE
        self.check(full or at_deadline, "completed before it was full or at its deadline")
        self.check(not event.house_filled or at_deadline, "virtual completion before the deadline")
        self.check(event.leader_order == self.leader and self.leader in self.confirmed, "the leader is not a member")
        self.phase = "COMPLETED"
        self.completed = list(event.orders)
        self.unit_price = event.unit_price_minor
        for order in self.confirmed.values():
            order.status = "SETTLING"

    def _expired(self, event: pb.GroupExpired) -> None:
        self.check(self.phase == "FORMING", f"expired after {self.phase}")
        terms, members = self._terms(), len(self.confirmed)
        if terms.solo:
            self.check(not members, "a solo purchase expired though it is paid")
        else:
            self.check(self.time_ms >= self.deadline_ms, "expired before its deadline")
            self.check(members < terms.tiers[0].members, "expired though its first tier is reached")
            self.check(not 0 < terms.house_fill_members <= members, "expired though virtual completion applies")
        self.phase = "EXPIRED"

    def _cancelled(self, event: pb.GroupCancelled) -> None:
        self.check(self.phase == "FORMING", f"cancelled after {self.phase}")
        self.check(self.cancel_asked or self._failed, "cancelled without a command")
        self.check(self._failed or self.time_ms < self.deadline_ms, "cancelled past its deadline")
        self.phase = "CANCELLED"

    def _settled(self, event: pb.GroupSettled) -> None:
        self.check(self.phase == "COMPLETED" and not self.settled, "settled twice, or without completion")
        self.check(not self.confirmed, "settled while a capture is pending")
        done = [self.orders[name] for name in self.completed]
        paid = [order for order in done if order.status == "SETTLED"]
        reported = (event.settled, event.declined, event.captured_minor)
        mine = (len(paid), len(done) - len(paid), sum(order.settled_amount for order in paid))
        self.check(reported == mine, f"settled with {reported}, counted {mine}")
        self.settled = True

    def _cancel_refused(self, event: pb.CancelRefused) -> None:
        order = self.order(event.order)
        self.check(
            order.cancel_at >= 0 and not order.cancel_refused,
            f"the cancel of {event.order} was refused unasked or twice",
        )
        self.check(order.status not in (*LIVE, ""), f"the cancel of {event.order} was refused though it was possible")
        order.cancel_refused = True

    # Money -------------------------------------------------------------------------------------------------------

    def _settlement_requested(self, event: pb.SettlementRequested) -> None:
        name, terms = event.order, self._terms()
        self.check(self.phase == "COMPLETED" and name in self.confirmed, f"capture requested of {name}, not a member")
        order = self.confirmed[name]
        self.check(not order.to_capture, f"two captures are requested for {name}")
        discount = terms.leader_discount_minor if name == self.leader else 0
        amount = (self.unit_price - discount) * order.quantity
        self.check(
            event.amount_minor == amount, f"the capture of {name} is {event.amount_minor}, its tier gives {amount}"
        )
        self.check(0 < amount <= order.hold_amount, f"the capture of {name} exceeds its hold")
        self.check(event.hold == order.hold, f"the capture of {name} names another hold")
        order.to_capture = amount

    def _release_requested(self, event: pb.ReleaseRequested) -> None:
        name, order = event.order, self.order(event.order)
        self.check(not order.release_requested, f"the release of {name} is requested twice")
        self.check(
            order.status not in (*LIVE, "SETTLING", "SETTLED"),
            f"the release of {name} is requested though it is {order.status}",
        )
        order.status = order.status or "ORPHANED"
        order.release_requested = True

    def _member_settled(self, event: pb.MemberSettled) -> None:
        order = self._charged(event.order)
        self.check(event.amount_minor == order.to_capture or order.forged, f"{event.order} paid {event.amount_minor}")
        order.status, order.settled_amount = "SETTLED", event.amount_minor

    def _member_declined(self, event: pb.MemberDeclined) -> None:
        self._charged(event.order).status = "CAPTURE_DECLINED"

    def _charged(self, name: str) -> Order:
        self.check(
            self.phase == "COMPLETED" and name in self.confirmed, f"the settlement of {name}, which is not a member"
        )
        return self.confirmed.pop(name)

    def _member_released(self, event: pb.MemberReleased) -> None:
        order = self.order(event.order)
        self.check(not order.released, f"{event.order} was released twice")
        self.check(order.release_requested or order.forged, f"{event.order} was released without a request")
        order.released = True

    def _faulted(self, event: pb.Faulted) -> None:
        self.check(self.defects > 0, f"the rules failed: {event.error}")
