"""Due timers fire before the input, in the order of time, to the millisecond."""

from __future__ import annotations

import pytest

from services.groups.domain.decide import PROMOTIONS_BATCH
from services.groups.domain.model import OrderStatus, Phase
from tests.scenarios.facts import duration
from tests.scenarios.groups import (
    HOLD_WINDOW,
    HOUR,
    MINUTE,
    START_MS,
    WINDOW,
    authorised,
    campaign,
    cancel_group,
    cancels,
    declined,
    forming,
    given,
    joins,
    opens,
    tick,
)


def test_a_seat_that_is_not_paid_in_time_lapses() -> None:
    group = given(opens("a"), joins("b"), authorised("a")).when(tick(), at=HOLD_WINDOW)
    group.then("seat_released b LAPSED", "release_requested b LAPSED").when(tick()).then_nothing()


def test_a_seat_lasts_until_the_millisecond_before_its_end() -> None:
    group = given(opens("a"), joins("b"), authorised("a")).when(tick(), at=HOLD_WINDOW - 1).then_nothing()
    group.when(authorised("b")).then("member_confirmed b 2", "tier_reached 2 900")


def test_a_payment_in_the_millisecond_of_its_seats_end_is_too_late() -> None:
    group = given(opens("a"), joins("b"), authorised("a")).when(authorised("b"), at=HOLD_WINDOW)
    group.then("seat_released b LAPSED", "release_requested b LAPSED")
    assert group.state.status("b") is OrderStatus.LAPSED


def test_a_payment_in_the_millisecond_of_the_deadline_is_too_late() -> None:
    # The hold window ends with the deadline, so both are due in one millisecond. The closing releases the seat.
    offer = campaign(hold_window=duration(2 * HOUR))
    group = given(opens("a", offer), joins("b"), authorised("a")).when(authorised("b"), at=WINDOW)
    assert group.events[0].WhichOneof("body") == "expired"
    assert group.of("b") == ["seat_released b GROUP_EXPIRED", "release_requested b GROUP_EXPIRED"]


def test_a_payment_in_the_millisecond_before_the_deadline_still_counts() -> None:
    offer = campaign(hold_window=duration(2 * HOUR))
    group = given(opens("a", offer), joins("b"), authorised("a")).when(authorised("b"), at=WINDOW - 1)
    group.then("member_confirmed b 2", "tier_reached 2 900").when(tick(), at=WINDOW)
    assert group.state.phase is Phase.COMPLETED


def test_overdue_timers_fire_in_the_order_of_time() -> None:
    group = given(opens("a"), authorised("a")).when(joins("b"), at=45 * MINUTE).when(joins("c"), at=52 * MINUTE)
    group.when(joins("d"), at=3 * HOUR)
    group.then(
        "seat_released b LAPSED",
        "release_requested b LAPSED",
        "expired 1",
        "seat_released a GROUP_EXPIRED",
        "release_requested a GROUP_EXPIRED",
        "seat_released c GROUP_EXPIRED",
        "release_requested c GROUP_EXPIRED",
        "seat_refused d GROUP_EXPIRED",
    )


def test_a_lapsed_seat_goes_to_the_waitlist_before_the_input() -> None:
    offer = campaign(capacity=3, waitlist=True)
    group = given(opens("a", offer), joins("b"), joins("c"), authorised("a"), authorised("b"), joins("d"))
    group.when(joins("e"), at=HOLD_WINDOW)
    group.then("seat_released c LAPSED", "release_requested c LAPSED", "seat_reserved d", "seat_waitlisted e")
    assert group.events[2].seat_reserved.reserved_until_ms == START_MS + 2 * HOLD_WINDOW


def test_the_waitlist_is_not_seated_at_the_deadline() -> None:
    offer = campaign(capacity=3, waitlist=True)
    group = given(opens("a", offer), joins("b"), joins("c"), authorised("a"), authorised("b"), joins("d")).when(
        tick(), at=WINDOW
    )
    assert group.of("c") == ["seat_released c LAPSED", "release_requested c LAPSED"]
    assert group.of("d") == ["seat_released d GROUP_COMPLETED"]


def test_a_long_waitlist_is_seated_in_batches_before_new_orders() -> None:
    seats = 3 * PROMOTIONS_BATCH
    group = given(opens("s0", campaign(capacity=seats, waitlist=True)), *(joins(f"s{n}") for n in range(1, seats)))
    group.when(*(joins(f"w{n}") for n in range(seats)), at=MINUTE)
    group.when(tick(), at=HOLD_WINDOW)
    seated = [event.seat_reserved.order for event in group.events if event.HasField("seat_reserved")]
    assert seated == [f"w{n}" for n in range(PROMOTIONS_BATCH)]
    assert group.due == HOLD_WINDOW
    # A new order goes to the end of the waitlist even if a seat is free.
    group.when(joins("late"), at=HOLD_WINDOW + 1)
    assert group.of("late") == ["seat_waitlisted late"]
    assert list(group.state.waitlist) == ["late"]
    assert group.due == 2 * HOLD_WINDOW


def test_due_is_the_time_of_the_next_timer() -> None:
    group = given()
    assert group.due is None
    group.when(opens("a"))
    assert group.due == HOLD_WINDOW
    group.when(joins("b"), at=MINUTE)
    assert group.due == HOLD_WINDOW
    group.when(authorised("a"))
    assert group.due == MINUTE + HOLD_WINDOW
    group.when(declined("b"))
    assert group.due == WINDOW
    group.when(tick(), at=WINDOW)
    assert group.due is None


def test_a_tick_before_anything_is_due_changes_nothing() -> None:
    given().when(tick(), at=HOUR).then_nothing()
    forming("a", "b").when(tick(), at=WINDOW - 1).then_nothing()


def test_a_group_cancel_in_the_millisecond_of_the_deadline_is_too_late() -> None:
    group = forming("a", "b").when(cancel_group(), at=WINDOW)
    assert group.state.phase is Phase.COMPLETED


@pytest.mark.parametrize("last", [authorised("d"), cancels("d"), joins("e"), cancel_group(), tick(), declined("d")])
def test_at_the_deadline_a_group_completes_or_expires_before_any_input(last: bytes) -> None:
    offer = campaign(hold_window=duration(2 * HOUR))
    for paid, phase in ((("a",), Phase.EXPIRED), (("a", "b"), Phase.COMPLETED)):
        group = given(opens("a", offer), joins("b"), joins("c"), joins("d"), *(authorised(order) for order in paid))
        group.when(last, at=WINDOW)
        assert group.state.phase is phase
        closings = [e for e in group.events if e.WhichOneof("body") in ("completed", "expired", "cancelled")]
        assert len(closings) == 1
