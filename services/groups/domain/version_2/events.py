"""Constructors of the events that only rules version 2 decides. They make no decisions."""

from __future__ import annotations

from groupbuy.groups.v1.decisions_pb2 import AdmissionRequested, GroupEvent, RefusalReason, SeatWaitlisted
from groupbuy.groups.v1.inbox_pb2 import StockAnswer
from groupbuy.orders.v1.facts_pb2 import OrderFact

from services.groups.domain.model import WaitlistEntry
from services.groups.domain.terms import Terms


def entry_of(fact: OrderFact) -> WaitlistEntry:
    """The fields of a placed order that its seat needs."""
    placed = fact.placed
    invitation = placed.invitation.SerializeToString() if placed.HasField("invitation") else b""
    return WaitlistEntry(fact.customer, placed.quantity, placed.payment_method, placed.request_sha256, invitation)


def admission_requested(terms: Terms, order: str, entry: WaitlistEntry) -> GroupEvent:
    """An order waits for the answer whether it is within the customer's limit."""
    event = GroupEvent()
    body = event.admission_requested
    _set_entry(body, order, entry)
    body.campaign = terms.campaign
    body.limit = terms.limit_per_customer
    return event


def _set_entry(body: AdmissionRequested | SeatWaitlisted, order: str, entry: WaitlistEntry) -> None:
    body.order = order
    body.customer = entry.customer
    body.quantity = entry.quantity
    body.payment_method = entry.payment_method
    body.request_sha256 = entry.request_sha256
    if entry.invitation:
        body.invitation.MergeFromString(entry.invitation)


def allowance_returned(terms: Terms, order: str, customer: str) -> GroupEvent:
    """An order of a limited campaign ended without a purchase."""
    event = GroupEvent()
    body = event.allowance_returned
    body.order = order
    body.customer = customer
    body.campaign = terms.campaign
    return event


def seat_waitlisted(order: str, entry: WaitlistEntry) -> GroupEvent:
    """An order waits for a seat or for pieces."""
    event = GroupEvent()
    body = event.seat_waitlisted
    _set_entry(body, order, entry)
    return event


def seat_refused(order: str, entry: WaitlistEntry, reason: RefusalReason.ValueType) -> GroupEvent:
    """An order that waited gets no seat."""
    event = GroupEvent()
    body = event.seat_refused
    body.order = order
    body.customer = entry.customer
    body.reason = reason
    body.request_sha256 = entry.request_sha256
    return event


def units_requested(terms: Terms, at_least: int, wanted: int, at_most: int, *, queue: bool) -> GroupEvent:
    """Asks the stock item for pieces. With `queue`, the group waits in line if there are too few."""
    event = GroupEvent()
    body = event.units_requested
    body.stock = terms.stock
    body.at_least = at_least
    body.wanted = wanted
    body.at_most = at_most
    body.queue = queue
    return event


def units_granted(answer: StockAnswer) -> GroupEvent:
    """The stock item gave pieces."""
    event = GroupEvent()
    event.units_granted.stock_version = answer.version
    event.units_granted.units = answer.granted
    return event


def units_denied(answer: StockAnswer) -> GroupEvent:
    """The stock item has too few pieces."""
    event = GroupEvent()
    body = event.units_denied
    body.stock_version = answer.version
    body.free = answer.free
    body.queued = answer.queued
    return event


def units_returned(terms: Terms, units: int, *, closed: bool) -> GroupEvent:
    """Pieces go back to the stock item. `closed`: the group asks for no more."""
    event = GroupEvent()
    body = event.units_returned
    body.stock = terms.stock
    body.units = units
    body.closed = closed
    return event


def units_sold(terms: Terms, units: int) -> GroupEvent:
    """Pieces of charged members are sold."""
    event = GroupEvent()
    event.units_sold.stock = terms.stock
    event.units_sold.units = units
    return event
