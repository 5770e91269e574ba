"""One group, folded from groups.group.v1 alone and checked event by event."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from groupbuy.groups.v1.decisions_pb2 import GroupDecision

from ops.audit.chain import apply_events
from ops.audit.findings import Invariant
from ops.audit.group.closing import completion_problems, expiry_problems
from ops.audit.group.membership import GroupState
from ops.audit.group.pieces import Supply
from ops.audit.group.seats import SeatState
from ops.audit.group.supply import Supplied
from ops.audit.group.terms import SUPPLY_RULES_VERSION, frozen

#: Orders of the waitlist that one decision may seat; the next decision continues.
PROMOTIONS_BATCH = 64


class GroupFold(Supplied):
    """A group, folded from its decisions."""

    __slots__ = ()

    def take(self, value: bytes, decision: GroupDecision, log_trimmed: bool) -> bool:
        """Folds the next record of the group. Returns False for a duplicate."""
        if not self.chain.take(value, decision, log_trimmed, self._violation):
            return False
        if self.chain.trimmed:
            # Without its first decisions a group counts as closed, and only its chain is checked.
            return True
        self._at_ms = decision.time_ms
        self._cause = decision.cause
        self._events = decision.events[:]
        self._promoted = 0
        self._free = -1
        before = self.state
        apply_events(self, self._HANDLERS, decision, self._events, self._violation)
        if self.state is GroupState.FORMING:
            self._check_forming()
        elif self.state is not before:
            self._check_closed()
        if self.supply is not None:
            self._check_supply(self.supply)
        if self._to_return:
            for order in self._to_return:
                if not self.seats[order].release_requested:
                    what = "lost its seat, and its release is not requested"
                    self._violation(Invariant.ONE_END_OF_ORDER, what, order)
            self._to_return.clear()
        return True

    def _check_forming(self) -> None:
        """The invariants after every decision of a forming group."""
        terms, at_ms = self.terms, self._at_ms
        if terms is None:
            return
        if at_ms >= self.deadline_ms:
            self._violation(Invariant.ENDS_IN_TIME, f"still forming {at_ms - self.deadline_ms} ms after its deadline")
        for order in self.reserved:
            # Reservations end in their order, so the first one is enough.
            if at_ms >= (until_ms := self.seats[order].reserved_until_ms):
                self._violation(Invariant.ENDS_IN_TIME, f"keeps a seat that lapsed {at_ms - until_ms} ms ago", order)
            break
        members = len(self.confirmed)
        if members >= terms.capacity and not terms.at_deadline:
            self._violation(Invariant.ONE_END_OF_GROUP, f"full with {members} members, and not completed")
        if (
            self.waiting
            and self.taken < terms.capacity
            and self._promoted < PROMOTIONS_BATCH
            and self._is_seatable(next(iter(self.waiting)))
        ):
            self._violation(Invariant.SEATS, f"a seat is free, and {len(self.waiting)} orders wait")
        tiers, reached = terms.tiers, self.tiers_reached
        if reached < len(tiers) and members >= tiers[reached].members:
            self._violation(Invariant.RIGHT_AMOUNT, f"a tier of {tiers[reached].members} members is not announced")
        leader = self.leader_order
        led = leader in self.reserved or leader in self.confirmed or self._leads_waiting(leader)
        if not led and (leader or self.confirmed):
            self._violation(Invariant.RIGHT_AMOUNT, f"led by {leader or 'nobody'}, who has no seat")

    def _check_closed(self) -> None:
        """The invariants after the decision that closed the group."""
        if open_orders := [*self.reserved, *self.waiting]:
            self._violation(Invariant.ONE_END_OF_ORDER, f"{self.state.name}, but {open_orders} are not released")
        if self.state is not GroupState.COMPLETED:
            if self.confirmed:
                self._violation(Invariant.ONE_END_OF_ORDER, f"{self.state.name}, but it has members")
            return
        for order in self.members:
            seat = self.seats.get(order)
            if seat is None or seat.to_settle_minor < 0:
                self._violation(Invariant.ONE_END_OF_ORDER, "a member whose settlement is not requested", order)

    # --- the group ---------------------------------------------------------------------------------------------------

    def _opened(self, event: Any) -> None:
        if self.state is not GroupState.NONE:
            self._violation(Invariant.ONE_END_OF_GROUP, "opened twice")
        self.state = GroupState.FORMING
        self.terms = terms = frozen(event.terms.SerializeToString())
        self.deadline_ms = event.deadline_ms
        self.leader_order = event.leader_order
        deadline_ms = self._at_ms + terms.window_ms
        if terms.rules_version >= SUPPLY_RULES_VERSION:
            self.supply = Supply()
            deadline_ms = min(deadline_ms, terms.end_ms or deadline_ms)
            if not terms.is_on_sale(self._at_ms):
                self._violation(Invariant.SALE_TIMES, f"opened at {self._at_ms}, outside the sale")
        if event.deadline_ms != deadline_ms:
            self._violation(
                Invariant.ENDS_IN_TIME, f"its deadline is {event.deadline_ms}, its window gives {deadline_ms}"
            )
        if terms.rules_version <= 0:
            self._violation(Invariant.FOLLOWS_INPUT, "opened without a version of the rules")
        if self.inputs is not None:
            for what in self.inputs.opening_problems(event, self._cause):
                self._violation(Invariant.FOLLOWS_INPUT, what)

    def _leader_changed(self, event: Any) -> None:
        first = next(iter(self.confirmed), "")
        if event.order != first:
            self._violation(
                Invariant.RIGHT_AMOUNT, f"{event.order or 'nobody'} leads, the earliest member is {first or 'nobody'}"
            )
        if self.leader_order in self.confirmed:
            self._violation(Invariant.RIGHT_AMOUNT, f"{event.order} leads, though {self.leader_order} has not left")
        self.leader_order = event.order

    def _tier_reached(self, event: Any) -> None:
        tiers = self.terms.tiers if self.terms is not None else ()
        reached = self.tiers_reached
        self.tiers_reached += 1
        if reached >= len(tiers) or tiers[reached] != (event.members, event.unit_price_minor):
            self._violation(
                Invariant.RIGHT_AMOUNT, f"tier {event.members} → {event.unit_price_minor} is not the next of its terms"
            )
        if len(self.confirmed) < event.members:
            self._violation(
                Invariant.RIGHT_AMOUNT, f"tier of {event.members} reached with {len(self.confirmed)} members"
            )

    def _end(self, state: GroupState) -> None:
        if self.state is not GroupState.FORMING:
            self._violation(Invariant.ONE_END_OF_GROUP, f"{state.name} after {self.state.name}")
        self.state = state
        self.closed_ms = self._at_ms

    def _completed(self, event: Any) -> None:
        self._end(GroupState.COMPLETED)
        if event.leader_order not in self.confirmed:
            self._violation(Invariant.RIGHT_AMOUNT, "completed, and the leader is no member")
        if event.leader_order != self.leader_order:
            self._violation(
                Invariant.RIGHT_AMOUNT, f"the discount went to {event.leader_order}, which is not the leader's order"
            )
        if self.terms is not None:
            confirmed = tuple(self.confirmed)
            for problem in completion_problems(self.terms, event, confirmed, self._at_ms, self.deadline_ms):
                self._violation(*problem)
        self.members = tuple(event.orders)
        self.unit_price_minor = event.unit_price_minor
        self.completed_version = self.chain.version

    def _expired(self, event: Any) -> None:
        self._end(GroupState.EXPIRED)
        for problem in expiry_problems(self.terms, event, len(self.confirmed), self._at_ms, self.deadline_ms):
            self._violation(*problem)

    def _cancelled(self, event: Any) -> None:
        self._end(GroupState.CANCELLED)
        if self._failed:
            return
        if self._at_ms >= self.deadline_ms:
            self._violation(Invariant.ENDS_IN_TIME, "cancelled after its deadline")
        if self.inputs is not None and not self.inputs.is_command(self._cause):
            self._violation(Invariant.FOLLOWS_INPUT, "cancelled without a command")

    def _settled(self, event: Any) -> None:
        if self.settled or self.state is not GroupState.COMPLETED:
            self._violation(Invariant.ONE_END_OF_GROUP, f"settled {'twice' if self.settled else self.state.name}")
        self.settled = True
        seats = [self.seats[order] for order in self.members if order in self.seats]
        charged = [seat.settled_minor for seat in seats if seat.state is SeatState.SETTLED]
        failed = sum(seat.state is SeatState.DECLINED for seat in seats)
        if (event.settled, event.declined, event.captured_minor) != (len(charged), failed, sum(charged)):
            self._violation(
                Invariant.RIGHT_AMOUNT,
                f"settled with {event.settled} charged, {event.declined} declined, {event.captured_minor} captured; "
                f"the members have {len(charged)}, {failed}, {sum(charged)}",
            )
        if undone := [seat.order for seat in seats if not seat.state.final]:
            self._violation(Invariant.ONE_END_OF_ORDER, f"settled, but {undone} are not final")

    def _faulted(self, event: Any) -> None:
        self.faulted = event.error
        self._findings.alarm(f"group {self.key}: the rules failed with {event.error}")

    #: The method of each kind of event.
    _HANDLERS: ClassVar[Mapping[str, Callable[[GroupFold, Any], None]]] = {
        **Supplied.HANDLERS,
        **Supplied.ENDINGS,
        **Supplied.SUPPLY,
        "opened": _opened,
        "leader_changed": _leader_changed,
        "tier_reached": _tier_reached,
        "completed": _completed,
        "expired": _expired,
        "cancelled": _cancelled,
        "settled": _settled,
        "faulted": _faulted,
    }
