"""The state of the evening, folded from the decision logs: groups, amounts and prices, for the view and the tables.

It proves nothing: the audit at the end reads all topics again.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from groupbuy.groups.v1.decisions_pb2 import GroupDecision
from groupbuy.payments.v1.decisions_pb2 import PaymentDecision

from chassis.telemetry.printable import printable
from ops.audit.findings import Findings
from ops.audit.group.decisions import GroupFold
from ops.audit.group.membership import GroupState
from ops.audit.money.group_payments import GroupPaymentsFold
from ops.demo.endings import Ending, ending
from ops.demo.sums import Sums, of_group
from ops.log.rendering.describe import clock, event_line
from shared_kernel.topics import GROUP_LOG, PAYMENT_LOG

TOPICS = (GROUP_LOG.name, PAYMENT_LOG.name)
#: Events that are shown as news.
NEWS = {"completed", "expired", "cancelled", "tier_reached", "member_declined"}


@dataclass(slots=True)
class Board:
    """The state of the evening. `titles` has the display names of campaigns."""

    titles: dict[str, str]
    groups: dict[str, GroupFold] = field(default_factory=dict)
    payments: dict[str, GroupPaymentsFold] = field(default_factory=dict)
    tiers_reached: int = 0
    news: deque[str] = field(default_factory=lambda: deque(maxlen=40))
    #: Violations that the folds find. Ignored here; the audit reports them.
    _ignored: Findings = field(default_factory=Findings)

    def take(self, topic: str, records: Iterable[Any]) -> None:
        """Takes records of one of TOPICS, in order."""
        for record in records:
            key = record.key.decode()
            if topic == GROUP_LOG.name:
                self._group(key, record.value)
            else:
                group_payments = self.payments.setdefault(key, GroupPaymentsFold(key, self._ignored))
                group_payments.take(record.value, PaymentDecision.FromString(record.value), False)

    def _group(self, key: str, value: bytes) -> None:
        decision = GroupDecision.FromString(value)
        group = self.groups.setdefault(key, GroupFold(key, self._ignored))
        if not group.take(value, decision, False):
            return
        for event in decision.events:
            body = event.WhichOneof("body")
            self.tiers_reached += body == "tier_reached"
            if body in NEWS and group.terms is not None and not group.terms.solo:
                self.news.append(
                    printable(f"{clock(decision.time_ms)} {self.title(group)} {key[:8]}: {event_line(event)}")
                )

    def title(self, group: GroupFold) -> str:
        """The display name of a group's campaign."""
        if group.terms is None:
            return "?"
        return self.titles.get(group.terms.campaign, printable(group.terms.campaign))

    def opened(self) -> list[GroupFold]:
        """The opened groups, with solo purchases."""
        return [group for group in self.groups.values() if group.terms is not None]

    def pooled(self) -> list[GroupFold]:
        """The opened groups without solo purchases."""
        return [group for group in self.opened() if group.terms and not group.terms.solo]

    def solo(self) -> list[GroupFold]:
        """The solo purchases, each a group of one in the log."""
        return [group for group in self.opened() if group.terms and group.terms.solo]

    def states(self) -> Counter[GroupState]:
        """The number of groups by state, without solo purchases."""
        return Counter(group.state for group in self.pooled())

    def forming(self) -> list[GroupFold]:
        """The forming groups, the fullest first."""
        found = [group for group in self.pooled() if group.state is GroupState.FORMING]
        return sorted(found, key=lambda group: (-group.taken, group.key))

    def endings(self) -> Counter[Ending]:
        """The number of orders by final state, with solo purchases. Each order counts once."""
        return Counter(ending(group, seat) for group in self.groups.values() for seat in group.seats.values())

    def money(self) -> dict[str, Sums]:
        """The sums by currency, with solo purchases."""
        return self.money_of(self.opened())

    def money_of(self, groups: Iterable[GroupFold]) -> dict[str, Sums]:
        """The sums of these groups by currency."""
        sums: dict[str, Sums] = {}
        for group in groups:
            if group.terms is not None:
                sums.setdefault(group.terms.currency, Sums()).add(self.sums_of(group))
        return dict(sorted(sums.items()))

    def sums_of(self, group: GroupFold) -> Sums:
        """The sums of one group."""
        return of_group(group, self.payments.get(group.key))
