"""A deferred call is kept in the state, retried by the log's time, and delays no other order."""

from __future__ import annotations

from services.payments.domain.inputs.on_timer import RETRIES_BATCH
from tests.scenarios.payments import START_MS, authorised, expired, given, group, reserved, retry_later, seat, tick


def test_a_deferred_call_is_not_made_before_its_retry() -> None:
    scenario = given(reserved()).when(retry_later()).then("CallDeferred authorise:1")
    assert scenario.calls == []
    assert scenario.domain.due(scenario.state) == scenario.now_ms + 1_000
    scenario.when(tick(), after_ms=999).then_nothing()
    scenario.when(tick(), after_ms=1).then("CallRetried authorise:1 100")
    assert scenario.calls == ["o1:authorise:1"]
    assert scenario.domain.due(scenario.state) is None


def test_pauses_double_up_to_30_s_and_after_20_up_to_five_minutes() -> None:
    scenario = given(reserved())
    pauses = []
    for deferrals in range(1, 24):
        scenario.when(retry_later())
        body = scenario.events[0].call_deferred
        assert (body.deferrals, body.error) == (deferrals, "timeout")
        pauses.append((body.retry_at_ms - scenario.now_ms) // 1_000)
        scenario.when(tick(), after_ms=body.retry_at_ms - scenario.now_ms)
    assert pauses == [1, 2, 4, 8, 16, *[30] * 15, 300, 300, 300]


def test_the_providers_retry_delay_is_honoured_up_to_a_day() -> None:
    for requested_ms, pause in ((7_000, 7_000), (10, 1_000), (-5, 1_000), (10**15, 86_400_000)):
        scenario = given(reserved()).when(retry_later(after_ms=requested_ms))
        assert scenario.events[0].call_deferred.retry_at_ms == scenario.now_ms + pause


def test_a_duplicate_unknown_result_defers_once() -> None:
    given(reserved(), retry_later()).when(retry_later()).then_nothing()


def test_any_input_after_its_time_retries_a_deferred_call() -> None:
    scenario = given(reserved(), retry_later()).when(reserved("o2"), after_ms=1_000)
    scenario.then("o2: HoldRequested authorise:1 100", "CallRetried authorise:1 100")
    assert scenario.calls == ["o2:authorise:1", "o1:authorise:1"]


def test_a_result_that_arrives_when_its_call_is_due_saves_the_retry() -> None:
    scenario = given(reserved(), retry_later()).when(authorised(), after_ms=1_000).then("HoldAuthorised h1 100")
    assert scenario.domain.due(scenario.state) is None


def test_a_deferred_call_does_not_delay_another_order() -> None:
    scenario = given(group(seat("o1"), seat("o2")), retry_later())
    scenario.when(authorised("h2", order="o2")).then("o2: HoldAuthorised h2 100")


def test_of_several_due_calls_the_earliest_comes_first() -> None:
    scenario = given(
        group(seat("o1"), seat("o2"), seat("o3")),
        retry_later(order="o3"),
        retry_later(order="o1"),
        retry_later(order="o2"),
    )
    assert scenario.domain.due(scenario.state) == START_MS + 2 * 10 + 1_000
    scenario.when(tick(), after_ms=5_000).then(
        "o3: CallRetried authorise:1 100", "CallRetried authorise:1 100", "o2: CallRetried authorise:1 100"
    )


def test_the_due_time_is_that_of_a_deferred_call() -> None:
    scenario = given(group(seat("o1"), seat("o2")), retry_later(), retry_later(order="o2", after_ms=9_000))
    scenario.when(authorised())
    assert scenario.domain.due(scenario.state) == START_MS + 3 * 10 + 9_000
    scenario.when(authorised("h2", order="o2"))
    assert scenario.domain.due(scenario.state) is None
    assert scenario.state.retries == []


def test_many_due_calls_are_retried_in_several_decisions() -> None:
    orders = [f"o{number}" for number in range(2, RETRIES_BATCH + 102)]
    scenario = given(group(*(seat(order) for order in orders)))
    for order in orders:
        scenario.when(retry_later(order=order), after_ms=0)
    scenario.when(tick(), after_ms=60_000)
    assert len(scenario.calls) == RETRIES_BATCH
    assert scenario.domain.due(scenario.state) is not None
    scenario.when(tick())
    assert len(scenario.calls) == 100
    scenario.when(tick()).then_nothing()


def test_a_fault_does_not_make_a_deferred_call_due_for_ever() -> None:
    scenario = (
        given(reserved(), retry_later()).when(reserved("o2", amount=0), after_ms=1_000).then("Faulted Impossible")
    )
    scenario.when(tick()).then("CallRetried authorise:1 100")
    scenario.when(expired()).then_nothing()
