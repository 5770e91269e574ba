"""What the topics say of the evening so far: groups, money, prices. It is all that the view and the tables show.

A picture for people, taken from the decision logs as they grow. Proof is the audit's business, which reads them again.
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
#: Events worth a line in the news.
NEWS = {"completed", "expired", "cancelled", "tier_reached", "member_failed"}


@dataclass(slots=True)
class Money:
    """Sums in minor units of one currency. A wallet's payment counts as held until its group closes."""

    held: int = 0
    captured: int = 0
    released: int = 0

    @property
    def open(self) -> int:
        """Still held."""
        return self.held - self.captured - self.released

    def add(self, purse: GroupPaymentsFold) -> None:
        """Adds all of a purse."""
        for payment in purse.payments.values():
            for hold in payment.holds.values():
                self.held += hold.held
                self.captured += hold.kept
                self.released += hold.released + hold.own_refunds


@dataclass(slots=True)
class Board:
    """The state of the evening. `titles` tells what people call a campaign."""

    titles: dict[str, str]
    groups: dict[str, GroupFold] = field(default_factory=dict)
    purses: dict[str, GroupPaymentsFold] = field(default_factory=dict)
    tiers_reached: int = 0
    news: deque[str] = field(default_factory=lambda: deque(maxlen=6))
    #: What the folds think is wrong is left to the audit to say.
    _ignored: Findings = field(default_factory=Findings)

    def take(self, topic: str, records: Iterable[Any]) -> None:
        """Takes records of one of TOPICS, in order."""
        for record in records:
            key = record.key.decode()
            if topic == GROUP_LOG.name:
                self._group(key, record.value)
            else:
                purse = self.purses.setdefault(key, GroupPaymentsFold(key, self._ignored))
                purse.take(record.value, PaymentDecision.FromString(record.value), False)

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
        """What people call a group's campaign."""
        if group.terms is None:
            return "?"
        return self.titles.get(group.terms.campaign, printable(group.terms.campaign))

    def opened(self) -> list[GroupFold]:
        """Groups that opened, solo purchases among them."""
        return [group for group in self.groups.values() if group.terms is not None]

    def states(self) -> Counter[GroupState]:
        """Groups by state; those bought alone are none of them."""
        return Counter(group.state for group in self.opened() if group.terms and not group.terms.solo)

    def forming(self) -> list[GroupFold]:
        """Groups that still form, the fullest first."""
        found = [g for g in self.opened() if g.state is GroupState.FORMING and g.terms and not g.terms.solo]
        return sorted(found, key=lambda group: (-group.taken, group.key))

    def money(self) -> dict[str, Money]:
        """Money by currency."""
        sums: dict[str, Money] = {}
        for group in self.opened():
            purse = self.purses.get(group.key)
            if purse is not None and group.terms is not None:
                sums.setdefault(group.terms.currency, Money()).add(purse)
        return dict(sorted(sums.items()))

    def money_of(self, group: GroupFold) -> Money:
        """Money of one group."""
        money = Money()
        if (purse := self.purses.get(group.key)) is not None:
            money.add(purse)
        return money
