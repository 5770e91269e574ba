"""The auditor: reads every record as it is appended, folds the logs with its own code, and raises at the first record
that violates a guarantee. It shares no code with production's evolve, and does not influence the run.
"""

from __future__ import annotations

from hashlib import sha256

from groupbuy.groups.v1.campaigns_pb2 import Campaign
from groupbuy.groups.v1.decisions_pb2 import GroupDecision
from groupbuy.groups.v1.inbox_pb2 import GroupInput
from groupbuy.orders.v1.facts_pb2 import OrderFact
from groupbuy.payments.v1.decisions_pb2 import PaymentDecision, ProviderCall
from groupbuy.payments.v1.inbox_pb2 import PaymentInput

from shared_kernel import topics
from tests.simulation.audit.group_payments import GroupPaymentsAudit
from tests.simulation.audit.groups import GroupAudit
from tests.simulation.audit.violation import Violation
from tests.simulation.histories.coverage import Coverage
from tests.simulation.world.broker import Broker, Record
from tests.simulation.world.provider import Account
from tests.simulation.world.shop import DEFECT


class Chain:
    """The versions of one aggregate: without gaps, one decision for each version, chained by digests."""

    __slots__ = ("cause", "digests", "time_ms", "what")

    def __init__(self, what: str) -> None:
        self.what = what
        self.digests: list[bytes] = []
        self.cause = -1
        self.time_ms = 0

    def take(self, record: Record, decision: GroupDecision | PaymentDecision, inbox: list[Record]) -> bool:
        """Checks one decision. Returns False for a duplicate."""
        digest = sha256(record.value or b"").digest()
        version, key = decision.version, decision.group
        if version <= len(self.digests):
            if self.digests[version - 1] != digest:
                raise Violation("one decision a version", key, f"two different decisions {self.what} {version}")
            return False
        if version != len(self.digests) + 1:
            raise Violation("versions without gap", key, f"{self.what} jumps from {len(self.digests)} to {version}")
        if decision.previous_sha256 != (self.digests[-1] if self.digests else b""):
            raise Violation("chain of hashes", key, f"{self.what} {version} does not name the one before it")
        if not decision.events:
            raise Violation("one decision a version", key, f"{self.what} {version} is empty")
        cause = inbox[decision.cause]
        if decision.cause <= self.cause or cause.key != key.encode():
            raise Violation("one decision an input", key, f"{self.what} {version} is caused by {decision.cause} again")
        time_ms = max(self.time_ms, cause.timestamp)
        if decision.time_ms != time_ms:
            raise Violation(
                "time comes from the log", key, f"{self.what} {version}: {decision.time_ms - time_ms} ms off"
            )
        self.digests.append(digest)
        self.cause, self.time_ms = decision.cause, time_ms
        return True


class Auditor:
    """The auditor of one broker."""

    def __init__(self, broker: Broker, coverage: Coverage) -> None:
        self._broker = broker
        self._counts = coverage.counts
        self.groups: dict[str, GroupAudit] = {}
        self.group_payments: dict[str, GroupPaymentsAudit] = {}
        self._chains: dict[tuple[str, str], Chain] = {}
        #: Orders that were acknowledged: (group, order).
        self.acknowledged: set[tuple[str, str]] = set()
        self.refunds_requested: dict[str, tuple[str, str]] = {}
        #: Number of inputs of both inboxes.
        self.inputs = 0
        #: Latest edit of each campaign, by its id.
        self._edits: dict[str, Campaign] = {}
        self._takers = {
            topics.CAMPAIGNS.name: self._edited,
            topics.ORDERS.name: self._fact,
            topics.GROUP_INBOX.name: self._group_input,
            topics.GROUP_LOG.name: self._group_decision,
            topics.PAYMENT_INBOX.name: self._payment_input,
            topics.PAYMENT_LOG.name: self._payment_decision,
        }

    def take(self, record: Record) -> None:
        """Reads one record. Raises Violation."""
        taker = self._takers.get(record.topic)
        if taker is not None:
            try:
                taker(record)
            except AssertionError as error:
                raise Violation("auditor", (record.key or b"").decode(), str(error)) from error

    def group(self, key: str) -> GroupAudit:
        found = self.groups.get(key)
        if found is None:
            found = self.groups[key] = GroupAudit(key)
            self.group_payments[key] = GroupPaymentsAudit(key, found)
        return found

    def chain(self, topic: str, key: str, what: str) -> Chain:
        found = self._chains.get((topic, key))
        if found is None:
            found = self._chains[topic, key] = Chain(what)
        return found

    # Topics ------------------------------------------------------------------------------------------------------

    def _edited(self, record: Record) -> None:
        self._edits[(record.key or b"").decode()] = Campaign.FromString(record.value or b"")

    def _fact(self, record: Record) -> None:
        if record.value is None or record.value[:2] == b"\xff\xff":
            return
        fact = OrderFact.FromString(record.value)
        if fact.HasField("placed"):
            self.acknowledged.add((fact.group, fact.order))

    def _group_input(self, record: Record) -> None:
        self.inputs += 1
        message = GroupInput.FromString(record.value or b"")
        body = message.WhichOneof("body")
        group = self.group((record.key or b"").decode())
        if message.HasField("campaign"):
            campaign = message.campaign
            if campaign != self._edits.get(campaign.name.removeprefix("campaigns/")):
                # The sequencer had not read the edit yet. The terms are those of the campaign beside the order.
                self._counts["fault", "stale campaign"] += 1
        if body == "order_fact":
            fact = OrderFact.FromString(message.order_fact)
            order = group.order(fact.order)
            if fact.HasField("cancel_requested"):
                order.cancel_at = record.offset if order.cancel_at < 0 else order.cancel_at
            elif order.placed is None:
                order.placed = fact
                if fact.placed.payment_method == DEFECT:
                    group.defects += 1
                    self._counts["fault", "defect in the rules"] += 1
        elif body == "cancel_group":
            group.cancel_asked = True
        elif body == "payment_decision" and not message.source.topic:
            # Not copied from a decision: a forged record.
            for event in PaymentDecision.FromString(message.payment_decision).events:
                group.order(getattr(event, str(event.WhichOneof("body"))).order).forged = True
            self.group_payments[group.key].misled = True

    def _group_decision(self, record: Record) -> None:
        decision = GroupDecision.FromString(record.value or b"")
        key = decision.group
        inbox = self._broker.logs[topics.GROUP_INBOX.name, record.partition]
        if not self.chain(record.topic, key, "group").take(record, decision, inbox):
            return
        counts = self._counts
        for event in decision.events:
            counts["event", f"group.{event.WhichOneof('body')}"] += 1
        group = self.group(key)
        group.decided(
            decision, self._campaign(inbox[decision.cause]) if decision.version == 1 or not group.terms else None
        )
        for event in decision.events:
            if event.HasField("member_confirmed"):
                self._is_held(group, event.member_confirmed.order, event.member_confirmed.hold)
            elif event.HasField("member_settled"):
                self._is_charged(group, event.member_settled.order, event.member_settled.amount_minor)

    def _campaign(self, cause: Record) -> Campaign | None:
        message = GroupInput.FromString(cause.value or b"")
        return message.campaign if message.HasField("campaign") else None

    def _is_held(self, group: GroupAudit, order: str, reference: str) -> None:
        hold = self.group_payments[group.key].payment(order).holds.get(reference)
        if not group.orders[order].forged and (hold is None or not hold.booked):
            raise Violation("members have paid", group.key, f"{order} is a member, and nothing was held")

    def _is_charged(self, group: GroupAudit, order: str, amount: int) -> None:
        charged = self.group_payments[group.key].payment(order).charged
        if not group.orders[order].forged and charged != amount:
            raise Violation("debits = credits", group.key, f"{order} settled at {amount}, and was charged {charged}")

    def _payment_input(self, record: Record) -> None:
        self.inputs += 1
        message = PaymentInput.FromString(record.value or b"")
        if message.HasField("refund"):
            key = (record.key or b"").decode()
            self.group(key)
            self.refunds_requested[message.refund.refund] = (key, message.refund.order)
        elif message.HasField("group_decision") and not message.source.topic:
            # Not copied from a decision: a forged record.
            decision = GroupDecision.FromString(message.group_decision)
            for event in decision.events:
                if event.HasField("release_requested"):
                    self.group(decision.group).order(event.release_requested.order).forged = True
            self.group(decision.group)
            self.group_payments[decision.group].misled = True

    def _payment_decision(self, record: Record) -> None:
        decision = PaymentDecision.FromString(record.value or b"")
        inbox = self._broker.logs[topics.PAYMENT_INBOX.name, record.partition]
        if not self.chain(record.topic, decision.group, "payments").take(record, decision, inbox):
            return
        counts = self._counts
        for event in decision.events:
            counts["event", f"payment.{event.WhichOneof('body')}"] += 1
        self.group(decision.group)
        self.group_payments[decision.group].decided(decision)

    # The provider ------------------------------------------------------------------------------------------------

    def on_refund_declined(self, group: str, call: ProviderCall) -> None:
        """Records that the provider declined a refund finally: the amount stays owed."""
        self.group(group)
        self.group_payments[group].declined_refunds.setdefault(call.order, []).append(call.amount_minor)

    def on_capture_at_provider(self, account: Account, amount: int) -> None:
        """Checks a requested capture before it takes effect at the provider. Raises Violation."""
        group = self.group(account.group)
        if group.phase != "COMPLETED":
            raise Violation(
                "no capture before completion", group.key, f"{account.order} is charged in a group {group.phase}"
            )
        order = group.order(account.order)
        if amount != order.to_capture:
            raise Violation("charged the tier's price", group.key, f"{account.order}: {amount}, not {order.to_capture}")
