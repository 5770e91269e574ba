"""A hold that nobody asked for is one payment, whether a webhook or a statement reports it, and in which order.

Method: the real webhook ingest and the real claims of `reconcile`, decided by the real rules.
"""

from __future__ import annotations

from typing import Any

import pytest
from groupbuy.errors.v1 import errors_pb2
from groupbuy.payments.v1 import decisions_pb2 as d
from groupbuy.payments.v1.decisions_pb2 import PaymentDecision
from groupbuy.payments.v1.inbox_pb2 import OUTCOME_ORIGIN_NOTIFICATION, OutcomeCaptured, PaymentInput, ProviderOutcome
from groupbuy.simprovider.v1.simprovider_pb2 import StatementEntry

from chassis.routing.partition_router import LocalRouter
from chassis.rpc.errors import ApiError
from eventlog.core.errors import NotReady
from ops.reconcile.claims import addressed, of_unknown
from ops.reconcile.command import OurBooks
from ops.reconcile.comparison import Kind, compare
from services.payments.api.ledger_queries import LedgerQueries
from services.payments.api.names import PaymentName
from services.payments.api.recorded_holds import RecordedHolds
from services.payments.api.webhook_ingest import WebhookIngest
from services.payments.domain.addressing import Address, address_of_hold, earlier_addresses
from services.payments.domain.rules_version import CURRENT
from services.payments.ledger.journal import Entry, InMemoryGroups, Journal
from services.payments.providers.port import Unaddressed
from tests.scenarios.facts import GROUP
from tests.unit.ops.scripted_logs import Line as Record
from tests.unit.payments_api.service import ORDER, Decider, Inbox

HOLD = "pi_1"
#: Of another shop on the same account: not an id of ours.
FOREIGN = "order 1001"


class Reads:
    """Reads every notification as one captured hold."""

    def __init__(self, order: str, group: str = "") -> None:
        self._order = order
        self._group = group

    def verify_and_parse(self, provider: str, headers: Any, body: bytes) -> tuple[str, ProviderOutcome]:
        captured = OutcomeCaptured(hold=HOLD, amount_minor=500, currency="USD")
        operation, origin = d.OPERATION_CAPTURE, OUTCOME_ORIGIN_NOTIFICATION
        return self._group, ProviderOutcome(order=self._order, operation=operation, origin=origin, captured=captured)

    async def address(self, provider: str, notification: Unaddressed, timeout_s: float) -> None:
        raise AssertionError("an unaddressed notification")


def entry(order: str) -> StatementEntry:
    return StatementEntry(
        hold=HOLD, order=order, currency="USD", authorised_minor=500, captured_minor=500, wire="stripe"
    )


async def notified(inbox: Inbox, order: str) -> None:
    assert await WebhookIngest(Reads(order), inbox, lambda: 0).ingest("stripe", [], order.encode(), 1.0)


def fed(decider: Decider, order: str) -> None:
    claim = of_unknown(entry(order))
    assert claim is not None
    group, outcome = addressed("", claim)
    decider.receive(PaymentInput(outcome=outcome, rules_version=CURRENT), group)


def entries_of(decider: Decider) -> list[str]:
    """Holds of the entries in suspense."""
    decisions = [PaymentDecision.FromString(value) for value in decider.log]
    found = [
        event.suspense_recorded for one in decisions for event in one.events if event.HasField("suspense_recorded")
    ]
    return [body.hold for body in found if body.amount_minor]


@pytest.mark.parametrize("webhook_order", ["", FOREIGN])
@pytest.mark.parametrize("statement_order", ["", FOREIGN])
@pytest.mark.parametrize("webhook_first", [True, False])
async def test_a_hold_known_by_webhook_and_by_statement_is_one_suspense_entry(
    decider: Decider, inbox: Inbox, webhook_order: str, statement_order: str, webhook_first: bool
) -> None:
    if webhook_first:
        await notified(inbox, webhook_order)
        fed(decider, statement_order)
    else:
        fed(decider, statement_order)
        await notified(inbox, webhook_order)
    assert entries_of(decider) == [HOLD]


def recorded_under(decider: Decider, address: Address) -> OurBooks:
    """Our books with the unknown hold under an address that an earlier build derived."""
    claim = of_unknown(entry(FOREIGN))
    assert claim is not None
    claim.order = address.order
    before = len(decider.log)
    decider.receive(PaymentInput(outcome=claim), address.group)
    ours = OurBooks()
    ours.take([Record(at, value, address.group.encode()) for at, value in enumerate(decider.log[before:])])
    return ours


def test_a_statement_recognises_a_hold_under_the_ids_of_each_build(decider: Decider) -> None:
    reported = "stripe", "", FOREIGN, HOLD
    addresses = {address_of_hold(*reported), *earlier_addresses(*reported)}
    assert len(addresses) == 3
    for address in addresses:
        ours = recorded_under(decider, address)
        (line,) = compare(ours.books, ours.payments, [entry(FOREIGN)])
        assert "order" not in line.what, line
        assert (line.kind, line.group, line.order) == (Kind.DIFFERS, *address)
        # Only its return is pending.
        assert line.pending


def test_a_hold_under_other_ids_differs(decider: Decider) -> None:
    ours = recorded_under(decider, address_of_hold("wechat", "", FOREIGN, HOLD))
    (line,) = compare(ours.books, ours.payments, [entry(FOREIGN)])
    assert f"order {FOREIGN} there" in line.what


class Booked:
    """The ledger of a decider's log, as the queries of the API read it."""

    def __init__(self, decider: Decider, *, ready: bool = True) -> None:
        self._decider = decider
        self._ready = ready

    def of_group(self, group: str, after: tuple[int, int], limit: int) -> list[Entry]:
        if not self._ready:
            raise NotReady("the ledger is behind")
        journal = Journal(0, InMemoryGroups())
        found: list[Entry] = []
        for offset, value in enumerate(self._decider.log):
            found += journal.book(offset, PaymentDecision.FromString(value).group.encode(), value)
        return [one for one in found if one.group == group and (one.offset, one.number) > after][:limit]


def ingest_of(inbox: Inbox, decider: Decider, order: str, group: str = "", *, ready: bool = True) -> WebhookIngest:
    ledger: Any = Booked(decider, ready=ready)
    recorded = RecordedHolds(LedgerQueries(ledger, LocalRouter()))
    return WebhookIngest(Reads(order, group), inbox, lambda: 0, recorded=recorded)


@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize("order", ["", FOREIGN])
async def test_a_webhook_recognises_a_hold_that_an_earlier_build_recorded(
    decider: Decider, inbox: Inbox, order: str, at: int
) -> None:
    """By a webhook of an earlier build, whose id has the foreign order, or by its statement."""
    earlier = list(earlier_addresses("stripe", "", order, HOLD))[at]
    recorded_under(decider, earlier)
    ingested = await ingest_of(inbox, decider, order).ingest("stripe", [], b"late", 1.0)
    assert ingested is not None
    assert ingested.payment == PaymentName(*earlier)
    assert entries_of(decider) == [HOLD]


async def test_a_hold_that_no_build_recorded_gets_the_ids_of_this_one(decider: Decider, inbox: Inbox) -> None:
    ingested = await ingest_of(inbox, decider, FOREIGN).ingest("stripe", [], b"first", 1.0)
    assert ingested is not None
    assert ingested.payment == PaymentName(*address_of_hold("stripe", "", FOREIGN, HOLD))
    assert entries_of(decider) == [HOLD]


async def test_an_unknown_hold_has_to_be_sent_again_while_the_ledger_recovers(decider: Decider, inbox: Inbox) -> None:
    with pytest.raises(ApiError) as refused:
        await ingest_of(inbox, decider, FOREIGN, ready=False).ingest("stripe", [], b"early", 1.0)
    assert refused.value.reason == errors_pb2.ERROR_REASON_NOT_READY
    assert not inbox.records


async def test_a_hold_with_ids_of_ours_needs_no_ledger(decider: Decider, inbox: Inbox) -> None:
    """The group and the order of most notifications are ours."""
    ingest = ingest_of(inbox, decider, ORDER, GROUP, ready=False)
    ingested = await ingest.ingest("stripe", [], b"ours", 1.0)
    assert ingested is not None
    assert ingested.payment == PaymentName(GROUP, ORDER)
