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
from ops.log.describe import clock, event_line
from shared_kernel.topics import GROUP_LOG, PAYMENT_LOG

TOPICS = (GROUP_LOG.name, PAYMENT_LOG.name)
#: Events that are shown as news.
NEWS = {"completed", "expired", "cancelled", "tier_reached", "member_declined"}


@dataclass(slots=True)
class Money:
    """Sums in minor units of one currency. A wallet's payment counts as held until its group closes."""

    held: int = 0
    captured: int = 0
    released: int = 0

    @property
    def open(self) -> int:
        """The amount that is still held."""
        return self.held - self.captured - self.released

    def add(self, payments: GroupPaymentsFold) -> None:
        """Adds the amounts of a group."""
        for payment in payments.payments.values():
            for hold in payment.holds.values():
                self.held += hold.held
                self.captured += hold.kept
                self.released += hold.released + hold.own_refunds


@dataclass(slots=True)
class Board:
    """The state of the evening. `titles` has the display names of campaigns."""

    titles: dict[str, str]
    groups: dict[str, GroupFold] = field(default_factory=dict)
    payments: dict[str, GroupPaymentsFold] = field(default_factory=dict)
    tiers_reached: int = 0
    news: deque[str] = field(default_factory=lambda: deque(maxlen=6))
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
        """The number of opened groups, including solo purchases."""
        return [group for group in self.groups.values() if group.terms is not None]

    def states(self) -> Counter[GroupState]:
        """The number of groups by state, without solo purchases."""
        return Counter(group.state for group in self.opened() if group.terms and not group.terms.solo)

    def forming(self) -> list[GroupFold]:
        """The forming groups, the fullest first."""
        found = [g for g in self.opened() if g.state is GroupState.FORMING and g.terms and not g.terms.solo]
        return sorted(found, key=lambda group: (-group.taken, group.key))

    def money(self) -> dict[str, Money]:
        """The amounts by currency."""
        sums: dict[str, Money] = {}
        for group in self.opened():
            group_payments = self.payments.get(group.key)
            if group_payments is not None and group.terms is not None:
                sums.setdefault(group.terms.currency, Money()).add(group_payments)
        return dict(sorted(sums.items()))

    def money_of(self, group: GroupFold) -> Money:
        """The amounts of one group."""
        money = Money()
        if (group_payments := self.payments.get(group.key)) is not None:
            money.add(group_payments)
        return money
