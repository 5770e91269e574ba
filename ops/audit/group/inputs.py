"""The inputs of one group, from groups.inbox.v1, and the checks of its decisions against them.

Each input has its offset in the inbox, so a check compares what was known when a decision was made, however far ahead
the inbox has been read. Watch does not read the inbox; its groups have no inputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from groupbuy.groups.v1 import decisions_pb2 as pb
from groupbuy.groups.v1.campaigns_pb2 import Campaign
from groupbuy.groups.v1.inbox_pb2 import GroupInput
from groupbuy.orders.v1.facts_pb2 import OrderFact
from msgspec import Struct

from ops.audit.group.terms import FrozenTerms, differing_fields, frozen, terms_of_campaign


class OrderInput(Struct, array_like=True, gc=False):
    """The first input that placed an order."""

    #: Offset in the inbox.
    at: int
    customer: str
    campaign: str
    quantity: int
    currency: str
    max_unit_price_minor: int
    payment_method: str
    request_sha256: bytes
    #: Whether it opens a group, for members or for itself alone.
    opens: bool
    solo: bool


#: Version of the decision, pieces granted, pieces that were free, and whether the group waits in line.
StockAnswer = tuple[int, int, int, bool]


class GroupInputs:
    """The inputs of one group that its decisions are compared with."""

    __slots__ = (
        "_admitted", "_campaigns", "_cancelled", "_commands", "_denied", "_rejected", "_stock_answers",
        "placed",
    )  # fmt: skip

    def __init__(self) -> None:
        #: By order.
        self.placed: dict[str, OrderInput] = {}
        #: Encoded campaigns of the orders that open a group, by offset.
        self._campaigns: dict[int, bytes] = {}
        #: Offsets of the first request to leave and of the first rejection of an order's record, by order.
        self._cancelled: dict[str, int] = {}
        self._rejected: dict[str, int] = {}
        #: Offsets of the commands that cancel the group.
        self._commands: set[int] = set()
        #: Version, pieces, free pieces and place in the line of the stock item's answers, by offset.
        self._stock_answers: dict[int, StockAnswer] = {}
        #: Offsets of the first answers that admit and that deny an order.
        self._admitted: dict[str, int] = {}
        self._denied: dict[str, int] = {}

    def take(self, offset: int, message: GroupInput) -> None:
        """Takes the next input. Raises DecodeError."""
        body = message.WhichOneof("body")
        if body == "order_fact":
            self._order_fact(offset, OrderFact.FromString(message.order_fact))
            if message.HasField("campaign"):
                self._campaigns[offset] = message.campaign.SerializeToString()
        elif body == "cancel_group":
            self._commands.add(offset)
        elif body == "order_rejected":
            self._rejected.setdefault(message.order_rejected.order, offset)
        elif body == "stock_answer":
            answer = message.stock_answer
            self._stock_answers[offset] = answer.version, answer.granted, answer.free, answer.queued
        elif body == "admission_answer":
            known = self._admitted if message.admission_answer.admitted else self._denied
            known.setdefault(message.admission_answer.order, offset)

    def _order_fact(self, offset: int, fact: OrderFact) -> None:
        if fact.HasField("cancel_requested"):
            self._cancelled.setdefault(fact.order, offset)
        elif fact.HasField("placed") and fact.order not in self.placed:
            placed = fact.placed
            self.placed[fact.order] = OrderInput(
                offset,
                fact.customer,
                placed.campaign,
                placed.quantity,
                placed.currency,
                placed.max_unit_price_minor,
                placed.payment_method,
                placed.request_sha256,
                placed.opens_group or placed.solo,
                placed.solo,
            )

    def cancel_requested(self, order: str, cause: int, *, before: bool = False) -> bool:
        """Whether a request to leave was known to the decision with this cause, or to the one before it."""
        at = self._cancelled.get(order, -1)
        return 0 <= at < cause if before else 0 <= at <= cause

    def is_command(self, cause: int) -> bool:
        """Whether an input is the command that cancels the group."""
        return cause in self._commands

    def stock_answer(self, cause: int) -> StockAnswer | None:
        """The answer of the stock item at an offset."""
        return self._stock_answers.get(cause)

    def is_admitted(self, order: str, cause: int) -> bool:
        """Whether an answer that admits an order was known to the decision with this cause."""
        return 0 <= self._admitted.get(order, -1) <= cause

    def is_denied(self, order: str, cause: int) -> bool:
        """Whether an answer that denies an order was known to the decision with this cause."""
        return 0 <= self._denied.get(order, -1) <= cause

    # --- checks ------------------------------------------------------------------------------------------------------

    def opening_problems(self, event: pb.GroupOpened, cause: int) -> Iterator[str]:
        """Differences of a GroupOpened from the order and the campaign of its cause."""
        placed = self.placed.get(event.leader_order)
        raw = self._campaigns.get(cause)
        if placed is None or placed.at > cause or not placed.opens:
            yield f"opened by order {event.leader_order}, which does not open it"
            return
        if placed.customer != event.leader_customer:
            yield f"opened by customer {event.leader_customer}, the order is of {placed.customer}"
        if raw is None:
            yield "opened without a campaign"
            return
        campaign = Campaign.FromString(raw)
        if campaign.archived:
            yield "opened of an archived campaign"
        if campaign.name.removeprefix("campaigns/") != placed.campaign:
            yield f"opened of {campaign.name}, the order names {placed.campaign}"
        if names := differing_fields(event.terms, terms_of_campaign(raw, placed.solo)):
            yield f"its terms differ from the campaign's in {', '.join(names)}"

    def seat_problems(self, event: pb.SeatReserved, terms: FrozenTerms, cause: int) -> Iterator[str]:
        """Differences of a SeatReserved from the order as it was placed first."""
        placed = self.placed.get(event.order)
        if placed is None or placed.at > cause:
            yield "a seat for an order that was not placed"
            return
        if self.cancel_requested(event.order, cause, before=True):
            yield "a seat after its request to leave"
        for what, ours, theirs in (
            ("customer", event.customer, placed.customer),
            ("quantity", event.quantity, placed.quantity),
            ("currency", event.currency, placed.currency),
            ("payment method", event.payment_method, placed.payment_method),
            ("request", event.request_sha256.hex(), placed.request_sha256.hex()),
            ("campaign", terms.campaign, placed.campaign),
        ):
            if ours != theirs:
                yield f"a seat with {what} {ours}, placed with {theirs}"
        if terms.entry_price_minor > placed.max_unit_price_minor:
            yield f"a seat at {terms.entry_price_minor} a piece, the limit is {placed.max_unit_price_minor}"

    def waitlist_problems(self, event: pb.SeatWaitlisted, cause: int) -> Iterator[str]:
        """Differences of a SeatWaitlisted from the order as it was placed first."""
        placed = self.placed.get(event.order)
        if placed is None or placed.at > cause:
            yield "in the waitlist, but it was not placed"
            return
        if self.cancel_requested(event.order, cause, before=True):
            yield "in the waitlist after its request to leave"
        if (event.customer, event.quantity) != (placed.customer, placed.quantity):
            yield f"in the waitlist with {event.quantity} of {event.customer}, placed as another order"

    def refusal_is_true(
        self, event: pb.SeatRefused, terms: FrozenTerms | None, cause: int, at_ms: int, *, orphaned: bool
    ) -> bool:
        """Whether order and campaign give the reason of a refusal at a time. The log shows the other reasons.

        `terms` are the group's, None before it opened. `orphaned`: its money was returned before the order came.
        """
        reason, order = event.reason, event.order
        if reason == pb.REFUSAL_REASON_UNREADABLE:
            return 0 <= self._rejected.get(order, -1) <= cause
        if reason == pb.REFUSAL_REASON_CANCELLED:
            return orphaned or self.cancel_requested(order, cause)
        placed = self.placed.get(order)
        if placed is None or placed.at > cause or placed.request_sha256 != event.request_sha256:
            return False
        if terms is None:
            return self._is_true_of_campaign(reason, placed, self._campaigns.get(cause), at_ms)
        return _is_true_of_terms(reason, placed, terms, at_ms)

    def _is_true_of_campaign(self, reason: Any, placed: OrderInput, raw: bytes | None, at_ms: int) -> bool:
        """The same for an order of a group that is not open."""
        if reason == pb.REFUSAL_REASON_GROUP_UNKNOWN:
            return not placed.opens
        if raw is None:
            return bool(reason == pb.REFUSAL_REASON_CAMPAIGN_UNKNOWN)
        campaign = Campaign.FromString(raw)
        if reason == pb.REFUSAL_REASON_CAMPAIGN_MISMATCH:
            return campaign.name.removeprefix("campaigns/") != placed.campaign
        if reason == pb.REFUSAL_REASON_CAMPAIGN_ARCHIVED:
            return campaign.archived
        if reason == pb.REFUSAL_REASON_TERMS_INVALID:
            # The service validates campaigns when they are made; which terms are valid is not judged here.
            return not campaign.archived
        terms = frozen(terms_of_campaign(raw, placed.solo).SerializeToString())
        return _is_true_of_terms(reason, placed, terms, at_ms)


def _is_true_of_terms(reason: Any, placed: OrderInput, terms: FrozenTerms, at_ms: int) -> bool:
    return bool(
        {
            pb.REFUSAL_REASON_CURRENCY_MISMATCH: placed.currency != terms.currency,
            pb.REFUSAL_REASON_QUANTITY: not 1 <= placed.quantity <= terms.max_quantity,
            pb.REFUSAL_REASON_PRICE_CHANGED: placed.max_unit_price_minor < terms.entry_price_minor,
            pb.REFUSAL_REASON_CAMPAIGN_MISMATCH: placed.campaign != terms.campaign,
            pb.REFUSAL_REASON_NOT_OPEN_TO_JOIN: terms.solo or placed.opens,
            pb.REFUSAL_REASON_NOT_STARTED: at_ms < terms.start_ms,
            pb.REFUSAL_REASON_ENDED: 0 < terms.end_ms <= at_ms,
        }.get(reason, False)
    )
