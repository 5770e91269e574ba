"""A deferred call is kept in the state, retried by the log's time, and delays no other order."""

from __future__ import annotations

from services.payments.domain.on_timer import RETRIES_BATCH
from tests.unit.payments.stories import (
    START_MS,
    authorised,
    expired,
    given,
    group,
    later,
    reserved,
    seat,
    tick,
)


def test_a_deferred_call_is_not_made_before_its_retry() -> None:
    story = given(reserved()).when(later()).then("CallDeferred authorise:1")
    assert story.calls == []
    assert story.domain.due(story.payments) == story.at_ms + 1_000
    story.when(tick(), after_ms=999).then_nothing()
    story.when(tick(), after_ms=1).then("CallRetried authorise:1 100")
    assert story.calls == ["o1:authorise:1"]
    assert story.domain.due(story.payments) is None


def test_pauses_double_up_to_30_s_and_after_20_up_to_five_minutes() -> None:
    story = given(reserved())
    pauses = []
    for deferrals in range(1, 24):
        story.when(later())
        body = story.events[0].call_deferred
        assert (body.deferrals, body.error) == (deferrals, "timeout")
        pauses.append((body.retry_at_ms - story.at_ms) // 1_000)
        story.when(tick(), after_ms=body.retry_at_ms - story.at_ms)
    assert pauses == [1, 2, 4, 8, 16, *[30] * 15, 300, 300, 300]


def test_the_providers_retry_delay_is_honoured_up_to_a_day() -> None:
    for asked_ms, pause in ((7_000, 7_000), (10, 1_000), (-5, 1_000), (10**15, 86_400_000)):
        story = given(reserved()).when(later(after_ms=asked_ms))
        assert story.events[0].call_deferred.retry_at_ms == story.at_ms + pause


def test_a_duplicate_unknown_result_defers_once() -> None:
    given(reserved(), later()).when(later()).then_nothing()


def test_any_input_after_its_time_retries_a_deferred_call() -> None:
    story = given(reserved(), later()).when(reserved("o2"), after_ms=1_000)
    story.then("o2: HoldRequested authorise:1 100", "CallRetried authorise:1 100")
    assert story.calls == ["o2:authorise:1", "o1:authorise:1"]


def test_a_result_that_arrives_when_its_call_is_due_saves_the_retry() -> None:
    story = given(reserved(), later()).when(authorised(), after_ms=1_000).then("HoldAuthorised h1 100")
    assert story.domain.due(story.payments) is None


def test_a_deferred_call_does_not_delay_another_order() -> None:
    story = given(group(seat("o1"), seat("o2")), later())
    story.when(authorised("h2", order="o2")).then("o2: HoldAuthorised h2 100")


def test_of_several_due_calls_the_earliest_comes_first() -> None:
    story = given(group(seat("o1"), seat("o2"), seat("o3")), later(order="o3"), later(order="o1"), later(order="o2"))
    assert story.domain.due(story.payments) == START_MS + 2 * 10 + 1_000
    story.when(tick(), after_ms=5_000).then(
        "o3: CallRetried authorise:1 100", "CallRetried authorise:1 100", "o2: CallRetried authorise:1 100"
    )


def test_the_due_time_is_that_of_a_deferred_call() -> None:
    story = given(group(seat("o1"), seat("o2")), later(), later(order="o2", after_ms=9_000))
    story.when(authorised())
    assert story.domain.due(story.payments) == START_MS + 3 * 10 + 9_000
    story.when(authorised("h2", order="o2"))
    assert story.domain.due(story.payments) is None
    assert story.payments.retries == []


def test_many_due_calls_are_retried_in_several_decisions() -> None:
    orders = [f"o{number}" for number in range(2, RETRIES_BATCH + 102)]
    story = given(group(*(seat(order) for order in orders)))
    for order in orders:
        story.when(later(order=order), after_ms=0)
    story.when(tick(), after_ms=60_000)
    assert len(story.calls) == RETRIES_BATCH
    assert story.domain.due(story.payments) is not None
    story.when(tick())
    assert len(story.calls) == 100
    story.when(tick()).then_nothing()


def test_a_fault_does_not_make_a_deferred_call_due_for_ever() -> None:
    story = given(reserved(), later()).when(reserved("o2", amount=0), after_ms=1_000).then("Faulted Impossible")
    story.when(tick()).then("CallRetried authorise:1 100")
    story.when(expired()).then_nothing()
