"""A group of 2,000 orders: its decisions are small records, and each takes as many steps as in a group of ten.

The steps are the executed lines of Python in the domain. Only work inside C code is timed.
"""

from __future__ import annotations

import sys
from timeit import repeat
from types import FrameType
from typing import Any

from groupbuy.groups.v1.campaigns_pb2 import Campaign, Tier
from groupbuy.payments.v1.decisions_pb2 import PaymentEvent, PaymentReleased

from services.groups.domain.decide import PROMOTIONS_BATCH, due
from services.groups.domain.on_order_event import MAX_WAITLIST
from services.groups.domain.terms import MAX_SEATS
from tests.scenarios.facts import duration
from tests.scenarios.groups import (
    HOLD_WINDOW,
    WINDOW,
    Group,
    authorised,
    campaign,
    cancel_group,
    joins,
    opens,
    payments_decided,
    tick,
)

LIMIT_BYTES = 512 * 1024
CUSTOMER = "ö" * 100
PAYMENT_METHOD = "ü" * 255


def uuid(kind: int, number: int) -> str:
    return f"0f5fd1f1-2f7a-5b41-{kind:04d}-{number:012d}"


def uuids(count: int) -> list[str]:
    return [uuid(1, number) for number in range(count)]


def offer(seats: int = MAX_SEATS, **changes: Any) -> Campaign:
    tiers = [Tier(members=2, unit_price_minor=900), Tier(members=seats, unit_price_minor=800)]
    fields: dict[str, Any] = {"capacity": seats, "waitlist": True, "tiers": tiers} | changes
    return campaign(**fields)


def customer(kind: int, number: int) -> str:
    """A customer id of the maximum length."""
    return f"{kind}-{number:05d}-{CUSTOMER}"[:100]


class Bare(Group):
    """A group that only decides."""

    folds_log = False


class Large(Bare):
    """A group at its limits."""

    def __init__(self, seats: int = MAX_SEATS, **changes: Any) -> None:
        super().__init__()
        self.seats = uuids(seats)
        self.waiting = [uuid(2, number) for number in range(MAX_WAITLIST)]
        method = {"payment_method": PAYMENT_METHOD, "request_sha256": bytes(32)}
        leader, *others = self.seats
        self.when(opens(leader, offer(seats, **changes), customer=customer(1, 0), **method))
        self.when(*(joins(one, customer=customer(1, n), **method) for n, one in enumerate(others, start=1)))
        self.when(*(joins(one, customer=customer(2, n), **method) for n, one in enumerate(self.waiting)))
        assert len(self.state.reserved) == seats
        assert len(self.state.waitlist) == MAX_WAITLIST

    def largest(self) -> int:
        """Bytes of the largest decision so far."""
        return max(len(decision) for decision in self.log)


def test_the_completion_of_the_largest_group_is_a_small_record() -> None:
    group = Large()
    group.when(*(authorised(order) for order in group.seats))
    assert len(group.events[-1].seat_released.order) == 36
    assert sum(event.HasField("settlement_requested") for event in group.events) == MAX_SEATS
    assert sum(event.HasField("seat_released") for event in group.events) == MAX_WAITLIST
    assert group.largest() < LIMIT_BYTES


def test_the_failure_of_the_largest_group_is_a_small_record() -> None:
    patient = Large(hold_window=duration(WINDOW))
    for group, closing, at in ((patient, tick(), WINDOW), (Large(), cancel_group("x" * 500), 0)):
        group.when(closing, at=at)
        assert sum(event.HasField("release_requested") for event in group.events) == MAX_SEATS
        assert group.largest() < LIMIT_BYTES


def test_the_lapse_of_all_seats_at_once_is_a_small_record() -> None:
    group = Large().when(tick(), at=HOLD_WINDOW)
    assert sum(event.HasField("seat_reserved") for event in group.events) == PROMOTIONS_BATCH
    everybody = (PaymentEvent(payment_released=PaymentReleased(order=order)) for order in group.seats)
    group.when(payments_decided(*everybody))
    assert sum(event.HasField("member_released") for event in group.events) == MAX_SEATS
    assert group.largest() < LIMIT_BYTES


# Cost ---------------------------------------------------------------------------------------------------------------


class LinesRun:
    """Counts the lines of the domain that run inside a with block."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> LinesRun:
        sys.settrace(self._called)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _called(self, frame: FrameType, event: str, arg: object) -> Any:
        return self._line if "services/groups/domain" in frame.f_code.co_filename else None

    def _line(self, frame: FrameType, event: str, arg: object) -> Any:
        self.count += 1
        return self._line


def lines_to_fill(seats: int) -> int:
    orders = uuids(seats)
    inputs = [opens(orders[0], offer(seats)), *(joins(order) for order in orders[1:])]
    inputs += [authorised(order) for order in orders]
    group = Bare()
    with LinesRun() as run:
        group.when(*inputs)
    assert len(group.state.confirmed) == seats
    return run.count


def test_filling_a_group_takes_the_same_number_of_steps_per_order_whatever_its_size() -> None:
    small, large = lines_to_fill(50), lines_to_fill(500)
    assert large < small * 10.2


def test_one_decision_in_a_large_group_takes_as_many_steps_as_in_a_small_one() -> None:
    def lines(seats: int) -> int:
        group = Bare().when(opens("s0", offer(seats)), *(joins(f"s{n}") for n in range(1, seats - 1)))
        group.when(*(authorised(f"s{n}") for n in range(seats // 2)))
        with LinesRun() as run:
            group.when(joins("x"), authorised(f"s{seats // 2}"), at=1)
        return run.count

    assert lines(1_000) == lines(10)


def test_the_first_order_is_found_fast_after_many_have_left() -> None:
    # A dict walks over the holes that they leave: the longest walk there can be.
    group = Bare().when(opens("s0", offer()), *(joins(f"s{n}") for n in range(1, MAX_SEATS)))
    group.when(*(authorised(f"s{n}") for n in range(MAX_SEATS - 1)))
    assert list(group.state.reserved) == [f"s{MAX_SEATS - 1}"]
    assert min(repeat(lambda: due(group.state), number=10, repeat=20)) < 10 * 200e-6
