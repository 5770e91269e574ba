"""Folds order facts, group decisions and payment decisions into the orders of one group.

The three topics may be read in any order relative to each other; each alone is read in its own. Must never decide
anything: what the logs don't say is not known.
"""

from __future__ import annotations

from hashlib import sha256
from sys import intern
from typing import Any, NamedTuple, Protocol

import msgspec
from google.protobuf.message import DecodeError
from groupbuy.groups.v1.decisions_pb2 import GroupDecision, GroupOpened
from groupbuy.orders.v1.facts_pb2 import OrderFact, OrderPlaced
from groupbuy.payments.v1.decisions_pb2 import PaymentDecision

from services.orders.domain import order_payment, seat
from services.orders.domain.fold import OrderView


class HistoryBroken(ValueError):
    """A decision log has a gap, two different decisions of one version, or an event that this program can't read."""


#: The end of the year 9999, in milliseconds since the epoch. No decision was made later.
LATEST_MS = 253_402_300_799_999


class Chain(NamedTuple):
    """How far one decision log of the group has been folded."""

    version: int
    #: SHA-256 of the last decision's bytes.
    digest: bytes


#: Nothing has been folded yet.
START = Chain(0, b"")


class GroupOrders(msgspec.Struct, array_like=True):
    """All orders of one group. Kept on disk like OrderView."""

    group: str
    #: Id of the campaign; empty: nobody has opened the group, as far as has been read.
    campaign: str = ""
    #: Currency of the frozen terms; empty until the group is open.
    currency: str = ""
    #: Order that opened the group.
    opener: str = ""
    #: Bought alone, by the frozen terms.
    solo: bool = False
    orders: dict[str, OrderView] = msgspec.field(default_factory=dict)
    decisions: Chain = START
    payments: Chain = START
    #: Orders that their customers' lists must name from now on, or under another time. Nothing on disk has any.
    unlisted: tuple[str, ...] = ()

    def find(self, order: str) -> OrderView | None:
        """An order, None where neither its fact nor a decision about its seat has been read."""
        found = self.orders.get(order)
        return found if found is not None and found.known else None

    def check_listed(self, name: str, order: OrderView) -> None:
        """Notes an order that its customer's list does not name under its time."""
        if order.created_ms != order.listed_ms and order.listable:
            self.unlisted += (name,)

    def order(self, order: str) -> OrderView:
        """An order's view, made where there is none yet."""
        found = self.orders.get(order)
        if found is None:
            found = self.orders[order] = OrderView()
        return found


class Decision(Protocol):
    """What both kinds of decisions have in common."""

    version: int
    time_ms: int
    previous_sha256: bytes


class OrdersFold:
    """The folding rules. `value` is always the record's own bytes, which the chain of digests is made of."""

    def initial(self, key: str) -> GroupOrders:
        """Orders of a group that nothing was said about."""
        return GroupOrders(key)

    def fold_fact(self, state: GroupOrders, fact: OrderFact, time_ms: int) -> None:
        """Folds a fact; `time_ms` is its LogAppendTime. Raises DecodeError for one that can't be what orders wrote."""
        kind = fact.WhichOneof("body")
        if kind is None or not fact.order:
            raise DecodeError("an OrderFact without a known body or without an order")
        if kind == "placed":
            self._placed(state, fact, fact.placed, time_ms)

    def _placed(self, state: GroupOrders, fact: OrderFact, placed: OrderPlaced, time_ms: int) -> None:
        order = state.order(fact.order)
        if order.placed:
            # Asked again. Where the payload differs, the first in the log has won.
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
        """Folds a group decision. Returns False for a repeat. Raises HistoryBroken."""
        chain = _next(state.decisions, decision, value, f"group {state.group}")
        if chain is None:
            return False
        kinds = _kinds(decision, f"group {state.group}")
        state.decisions = chain
        for kind, event in zip(kinds, decision.events, strict=True):
            if kind == "opened":
                _opened(state, event.opened)
            elif kind == "completed":
                for one in event.completed.orders:
                    order = state.order(one)
                    seat.completed(order, event.completed.unit_price_minor, decision.time_ms)
                    state.check_listed(one, order)
            elif kind in seat.RULES:
                body = getattr(event, kind)
                order = state.order(body.order)
                seat.fold(order, kind, body, decision.time_ms)
                state.check_listed(body.order, order)
        return True

    def fold_payment(self, state: GroupOrders, decision: PaymentDecision, value: bytes) -> bool:
        """Folds a payment decision. Returns False for a repeat. Raises HistoryBroken."""
        chain = _next(state.payments, decision, value, f"purse {state.group}")
        if chain is None:
            return False
        kinds = _kinds(decision, f"purse {state.group}")
        state.payments = chain
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


def _kinds(decision: Any, what: str) -> list[str]:
    """Kinds of a decision's events. Nothing has changed yet where one is not known."""
    kinds = [event.WhichOneof("body") for event in decision.events[:]]
    if None in kinds:
        raise HistoryBroken(f"{what} version {decision.version} holds an unknown event")
    return kinds


def _next(chain: Chain, decision: Decision, value: bytes, what: str) -> Chain | None:
    """A chain moved on by one decision; None for a repeat. Raises HistoryBroken where it does not fit."""
    version = decision.version
    if version < chain.version:
        if version < 1:
            raise HistoryBroken(f"{what} has no version {version}")
        return None
    digest = sha256(value).digest()
    if version == chain.version:
        if digest != chain.digest:
            raise HistoryBroken(f"two different decisions of {what} version {version}")
        return None
    if version != chain.version + 1:
        raise HistoryBroken(f"{what} jumps from version {chain.version} to {version}")
    if decision.previous_sha256 != chain.digest:
        raise HistoryBroken(f"the chain of {what} is broken at version {version}")
    if not 0 <= decision.time_ms <= LATEST_MS:
        raise HistoryBroken(f"{what} version {version} says that it was decided at {decision.time_ms} ms")
    return Chain(version, digest)
