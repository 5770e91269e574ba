"""The ledger shows where the money of every payment is, and every changed or missing record is detected.

Method: logs of stories are booked, and then the same logs with one change each.
"""

from __future__ import annotations

from hashlib import sha256

import pytest
from groupbuy.payments.v1.decisions_pb2 import PaymentDecision, PaymentEvent, SuspenseRecorded

from services.payments.ledger.journal import DAY_MS, Fault, InMemoryGroups, Journal, LedgerBroken, parse_entry
from services.payments.ledger.posting_rules import Account
from tests.scenarios.facts import GROUP
from tests.scenarios.payments import (
    START_MS,
    VOID,
    PaymentsScenario,
    authorised,
    captured,
    declined,
    given,
    group,
    hold_gone,
    refund,
    refunded,
    release,
    reserved,
    seat,
    settle,
    settlement,
    sold,
    voided,
)
from tests.unit.payments.booking import PartitionJournal, booked

WALLET = "wallet_ok"
CHARGED = given(reserved(), authorised(), settle(60), captured(amount=60))
SOLD = given(reserved(method=WALLET), sold(), settle(60), refunded(40))


@pytest.mark.parametrize(
    ("scenario", "balances"),
    [
        (given(reserved()), {}),
        (given(reserved(), declined()), {}),
        (given(reserved(), authorised()), {"customer": -100, "holds": 100}),
        (CHARGED, {"customer": -60, "merchant": 60}),
        (given(reserved(), authorised(), release(), voided()), {}),
        (given(reserved(), authorised(), release(), hold_gone(VOID)), {}),
        (given(reserved(method=WALLET), sold()), {"customer": -100, "clearing": 100}),
        (given(reserved(method=WALLET), sold(), settle(60)), {"customer": -100, "clearing": 100}),
        (SOLD, {"customer": -60, "merchant": 60}),
        (given(reserved(method=WALLET), sold(), release(), refunded(100)), {}),
        (given(release("o1"), authorised("h1")), {"customer": -100, "suspense": 100}),
        (given(release("o1"), authorised("h1"), voided()), {}),
    ],
)
def test_the_balances_show_where_the_money_is(scenario: PaymentsScenario, balances: dict[str, int]) -> None:
    assert booked(scenario).balances() == balances


def test_a_refund_leaves_the_merchant_and_passes_through_refunds() -> None:
    scenario = given(reserved(), authorised(), settle(60), captured(amount=60), refund("r1", 25), refunded(25))
    books = booked(scenario)
    assert books.balances() == {"customer": -35, "merchant": 35}
    assert books.turnover(Account.REFUNDS) == 25


def test_every_entry_is_balanced_and_names_its_order_hold_and_event() -> None:
    books = booked(SOLD)
    moved = [entry for entry in books.entries if entry.postings]
    assert [entry.event for entry in moved] == ["HoldAuthorised", "Refunded", "Captured"]
    assert {(entry.group, entry.order, entry.hold) for entry in moved} == {(GROUP, "o1", "h1")}
    assert all(sum(posting.amount for posting in entry.postings) == 0 for entry in books.entries)


def test_currencies_are_not_summed() -> None:
    both = given(
        group(seat("o1", 1_500, currency="JPY"), seat("o2", 12_345, currency="KWD")),
        authorised("h1", 1_500, currency="JPY"),
        authorised("h2", 12_345, order="o2", currency="KWD"),
        group(settlement(1_200, currency="JPY"), settlement(11_111, "o2", "h2", "KWD")),
        captured("h1", 1_200),
        captured("h2", 11_111, order="o2"),
    )
    books = booked(both)
    assert books.balances("JPY") == {"customer": -1_200, "merchant": 1_200}
    assert books.balances("KWD") == {"customer": -11_111, "merchant": 11_111}
    assert books.balances("CNY") == {}


def test_sums_beyond_what_the_log_can_hold_of_one_amount_are_exact() -> None:
    most = (1 << 63) - 1
    orders = ["o1", "o2", "o3"]
    scenario = given(group(*(seat(order, most) for order in orders)))
    for number, order in enumerate(orders, 1):
        scenario.when(authorised(f"h{number}", most, order=order))
    assert booked(scenario).balances() == {"customer": -3 * most, "holds": 3 * most}


def test_a_decision_that_moved_no_money_has_an_entry() -> None:
    books = booked(given(reserved()))
    (entry,) = books.entries
    assert (entry.event, entry.order, entry.postings, entry.version) == ("", "", (), 1)
    assert entry.decision_sha256 == sha256(given(reserved()).log[0]).digest()


def test_each_hash_covers_all_entries_before_it() -> None:
    books = booked(CHARGED)
    hashed = b""
    for entry in books.entries:
        hashed = sha256(hashed + entry.raw).digest()
        assert entry.hash == hashed
    assert books.journal.head.hash == hashed
    assert books.journal.head.entries == len(books.entries)


def test_the_hash_of_an_entry_is_stable() -> None:
    decision = PaymentDecision(group="g", version=1, time_ms=1)
    unexpected = SuspenseRecorded(order="o", hold="h", amount_minor=5, currency="KWD")
    decision.events.append(PaymentEvent(suspense_recorded=unexpected))
    (entry,) = PartitionJournal().take([decision.SerializeToString(deterministic=True)], "g").entries
    assert entry.hash.hex() == "201c9134f2b1bb3990ea72b24b2b43d4e37addd6350d217412ce6d1a6f5e149e"


def test_an_entry_is_parsed_from_its_bytes() -> None:
    for entry in booked(CHARGED).entries:
        assert parse_entry(entry.raw, entry.hash) == entry


def test_a_duplicate_is_booked_once() -> None:
    books = PartitionJournal().take([*CHARGED.log, *CHARGED.log[-2:]])
    assert books.balances() == {"customer": -60, "merchant": 60}
    assert books.journal.head.next_offset == len(CHARGED.log) + 2


def test_booked_offsets_are_skipped() -> None:
    journal = Journal(0, InMemoryGroups())
    assert journal.book(0, GROUP.encode(), CHARGED.log[0])
    assert journal.book(0, GROUP.encode(), CHARGED.log[0]) == []


def changed(number: int, **fields: object) -> bytes:
    decision = PaymentDecision.FromString(CHARGED.log[number - 1])
    for name, value in fields.items():
        setattr(decision, name, value)
    return decision.SerializeToString()


@pytest.mark.parametrize(
    ("log", "message"),
    [
        ([*CHARGED.log[:2], CHARGED.log[3]], "go from version 2 to 4"),
        ([*CHARGED.log[:2], changed(2, time_ms=1)], "a second, different decision"),
        ([*CHARGED.log[:2], changed(3, previous_sha256=b"x")], "does not hold the digest of version 2"),
        ([CHARGED.log[1]], "go from version 0 to 2"),
        ([b"\xff"], "can't be decoded"),
        ([changed(1, group="other")], "not a payment decision of group"),
        ([changed(1, version=0)], "not a payment decision of group"),
    ],
)
def test_a_changed_log_stops_the_booking(log: list[bytes], message: str) -> None:
    with pytest.raises(LedgerBroken, match=message):
        PartitionJournal().take(log)


def test_a_fault_handler_that_returns_receives_every_fault() -> None:
    faults: list[Fault] = []
    journal = Journal(0, InMemoryGroups(), lambda fault, *_: faults.append(fault))
    log = [b"\xff", CHARGED.log[0], changed(1, time_ms=1), changed(2, previous_sha256=b"x"), CHARGED.log[3]]
    for offset, value in enumerate(log):
        journal.book(offset, GROUP.encode(), value)
    assert faults == [Fault.UNREADABLE, Fault.CHANGED, Fault.CHAIN, Fault.GAP]


def test_in_a_trimmed_log_a_group_may_start_at_any_version() -> None:
    journal = Journal(0, InMemoryGroups(), trimmed=True)
    assert journal.book(7, GROUP.encode(), CHARGED.log[2])
    with pytest.raises(LedgerBroken, match="go from version 3 to 5"):
        journal.book(8, GROUP.encode(), changed(4, version=5))


def test_each_day_has_its_own_tree_and_days_only_increase() -> None:
    scenario = given(reserved()).when(authorised(), after_ms=DAY_MS).when(settle(60))
    books = booked(scenario)
    days = books.journal.days
    first = START_MS // DAY_MS
    assert {day: tree.size for day, tree in days.items()} == {first: 1, first + 1: 2}
    late = PaymentDecision(group="late", version=1, time_ms=START_MS)
    books.take([late.SerializeToString()], "late")
    assert days[first + 1].size == 3
