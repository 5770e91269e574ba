"""One group, folded from groups.group.v1 alone and checked event by event."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from groupbuy.groups.v1.decisions_pb2 import GroupDecision

from ops.audit.chain import bodies
from ops.audit.findings import Invariant
from ops.audit.group.closing import completion_problems, expiry_problems
from ops.audit.group.membership import GroupState, Membership
from ops.audit.group.seats import SeatState


class GroupFold(Membership):
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
        for body, event in bodies(decision, self._violation):
            self._HANDLERS[body](self, event)
        if self.state is GroupState.FORMING and self._at_ms >= self.deadline_ms:
            self._violation(
                Invariant.ENDS_IN_TIME, f"still forming {self._at_ms - self.deadline_ms} ms after its deadline"
            )
        return True

    # --- the group ---------------------------------------------------------------------------------------------------

    def _opened(self, event: Any) -> None:
        if self.state is not GroupState.NONE:
            self._violation(Invariant.ONE_END_OF_GROUP, "opened twice")
        self.state = GroupState.FORMING
        self.terms = event.terms
        self.deadline_ms = event.deadline_ms
        self.leader_order = event.leader_order

    def _leader_changed(self, event: Any) -> None:
        self.leader_order = event.order

    def _tier_reached(self, event: Any) -> None:
        terms = self.terms
        rungs = [tier.unit_price_minor for tier in terms.tiers if tier.members == event.members] if terms else []
        if rungs != [event.unit_price_minor]:
            self._violation(
                Invariant.RIGHT_AMOUNT, f"tier {event.members} → {event.unit_price_minor} is not in its terms"
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
        self._findings.alarm(f"group {self.key}: the rules failed with {event.error}")

    #: The method of each kind of event.
    _HANDLERS: ClassVar[Mapping[str, Callable[[GroupFold, Any], None]]] = {
        **Membership.HANDLERS,
        "opened": _opened,
        "leader_changed": _leader_changed,
        "tier_reached": _tier_reached,
        "completed": _completed,
        "expired": _expired,
        "cancelled": _cancelled,
        "settled": _settled,
        "faulted": _faulted,
    }
