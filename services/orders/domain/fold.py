"""Folds order facts, group decisions and payment decisions into the orders of one group.

Each topic is read in its own order; the order between topics does not matter. The fold decides nothing.
"""

from __future__ import annotations

from hashlib import sha256
from sys import intern
from typing import Any, Protocol

from google.protobuf.message import DecodeError
from groupbuy.groups.v1.decisions_pb2 import GroupDecision, GroupOpened
from groupbuy.orders.v1.facts_pb2 import OrderFact, OrderPlaced
from groupbuy.payments.v1.decisions_pb2 import PaymentDecision

from services.orders.domain import order_payment, seat
from services.orders.domain.model import Chain, GroupOrders


class HistoryBroken(ValueError):
    """A decision log has a gap, two different decisions of one version, or an event that this build does not know."""


#: End of the year 9999, in milliseconds since the epoch: the latest valid time of a decision.
MAX_TIME_MS = 253_402_300_799_999


class Decision(Protocol):
    """The fields that group decisions and payment decisions share."""

    version: int
    time_ms: int
    previous_sha256: bytes


class OrdersFold:
    """The folding rules. `value` is the bytes of the record, which the chain of digests needs."""

    def initial(self, key: str) -> GroupOrders:
        """The state of a group without records."""
        return GroupOrders(key)

    def fold_fact(self, state: GroupOrders, fact: OrderFact, time_ms: int) -> None:
        """Folds a fact. `time_ms` is its LogAppendTime. Raises DecodeError if it is not a fact of this service."""
        kind = fact.WhichOneof("body")
        if kind is None or not fact.order:
            raise DecodeError("the OrderFact has no known body or no order")
        if kind == "placed":
            self._placed(state, fact, fact.placed, time_ms)

    def _placed(self, state: GroupOrders, fact: OrderFact, placed: OrderPlaced, time_ms: int) -> None:
        order = state.order(fact.order)
        if order.placed:
            # A duplicate. If its payload differs, the first fact in the log wins.
            return
        order.placed = True
        order.campaign = intern(placed.campaign)
        order.max_unit_price_minor = placed.max_unit_price_minor
        order.solo = placed.solo
        order.opens_group = placed.opens_group
        order.customer = order.customer or fact.customer
        order.quantity = order.quantity or placed.quantity
        order.currency = order.currency or intern(placed.currency)
        order.request_sha256 = order.request_sha256 or placed.request_sha256
        order.created_ms = time_ms
        order.updated_ms = max(order.updated_ms, time_ms)
        if placed.opens_group and not state.opener:
            state.opener = fact.order
            state.campaign = order.campaign
        state.check_listed(fact.order, order)

    def fold_group(self, state: GroupOrders, decision: GroupDecision, value: bytes) -> bool:
        """Folds a group decision. Returns False for a duplicate. Raises HistoryBroken."""
        following = _follow(state.decisions, decision, value, f"group {state.group}")
        if following is None:
            return False
        state.decisions, kinds = following
        for kind, event in zip(kinds, decision.events, strict=True):
            if kind == "opened":
                _opened(state, event.opened)
            elif kind == "completed":
                state.leader = event.completed.leader_order
                state.members = len(event.completed.orders)
                state.house_filled = event.completed.house_filled
                for name in event.completed.orders:
                    order = state.order(name)
                    seat.completed(order, event.completed.unit_price_minor, decision.time_ms)
                    state.check_listed(name, order)
            elif kind in seat.RULES:
                body = getattr(event, kind)
                order = state.order(body.order)
                seat.fold(order, kind, body, decision.time_ms)
                state.check_listed(body.order, order)
        return True

    def fold_payment(self, state: GroupOrders, decision: PaymentDecision, value: bytes) -> bool:
        """Folds a payment decision. Returns False for a duplicate. Raises HistoryBroken."""
        following = _follow(state.payments, decision, value, f"payments of group {state.group}")
        if following is None:
            return False
        state.payments, kinds = following
        for kind, event in zip(kinds, decision.events, strict=True):
            if kind in order_payment.RULES:
                body = getattr(event, kind)
                name = body.call.order if kind in order_payment.OF_CALLS else body.order
                order = state.order(name)
                order_payment.fold(order, kind, body, decision.time_ms)
                state.check_listed(name, order)
        return True


def _opened(state: GroupOrders, opened: GroupOpened) -> None:
    state.opener = opened.leader_order
    state.campaign = intern(opened.terms.campaign)
    state.currency = intern(opened.terms.currency)
    state.solo = opened.terms.solo
    state.product = intern(opened.terms.product)
    state.waits_for_pieces = bool(opened.terms.stock) and not opened.terms.waitlist


def _follow(chain: Chain, decision: Any, value: bytes, subject: str) -> tuple[Chain, list[str]] | None:
    """The chain after one more decision, and the kinds of its events, or None for a duplicate.

    Raises HistoryBroken before any event is folded.
    """
    advanced = _advance(chain, decision, value, subject)
    if advanced is None:
        return None
    kinds = [event.WhichOneof("body") for event in decision.events[:]]
    if None in kinds:
        raise HistoryBroken(f"{subject} version {decision.version} has an unknown event")
    return advanced, kinds


def _advance(chain: Chain, decision: Decision, value: bytes, subject: str) -> Chain | None:
    """The chain after one more decision, or None for a duplicate. Raises HistoryBroken if it does not follow."""
    version = decision.version
    if version < chain.version:
        if version < 1:
            raise HistoryBroken(f"{subject} has no version {version}")
        return None
    digest = sha256(value).digest()
    if version == chain.version:
        if digest != chain.digest:
            raise HistoryBroken(f"{subject} has two different decisions of version {version}")
        return None
    if version != chain.version + 1:
        raise HistoryBroken(f"{subject} jumps from version {chain.version} to {version}")
    if decision.previous_sha256 != chain.digest:
        raise HistoryBroken(f"the chain of {subject} is broken at version {version}")
    if not 0 <= decision.time_ms <= MAX_TIME_MS:
        raise HistoryBroken(f"{subject} version {version} has the invalid time {decision.time_ms} ms")
    return Chain(version, digest)
