"""A seat's money is held once, in whatever order the results arrive."""

from __future__ import annotations

from groupbuy.payments.v1 import decisions_pb2 as pb

from tests.scenarios.group_events import release_requested
from tests.scenarios.payments import (
    AUTHORISE,
    START_MS,
    absent,
    action_required,
    authorised,
    declined,
    expired,
    given,
    group,
    hold_gone,
    release,
    reserved,
    retry_later,
    seat,
    tick,
    voided,
)


def test_a_hold_request_has_all_fields_that_a_provider_needs() -> None:
    scenario = given().when(reserved())
    assert list(scenario.events[0].hold_requested.call.ListFields()) == list(
        pb.ProviderCall(
            order="o1",
            operation=pb.OPERATION_AUTHORISE,
            attempt=1,
            amount_minor=100,
            currency="CNY",
            payment_method="card_ok",
            customer="customer of o1",
            hold_until_ms=START_MS + 86_400_000,
        ).ListFields()
    )
    assert scenario.calls == ["o1:authorise:1"]


def test_a_wallet_pays_at_once() -> None:
    scenario = given().when(reserved(method="wallet_wechat")).then("HoldRequested sale:1 100")
    assert scenario.calls == ["o1:sale:1"]


def test_a_seat_reserved_twice_is_held_once() -> None:
    given(reserved()).when(reserved()).then_nothing()


def test_all_events_of_a_group_decision_are_handled_in_order() -> None:
    given().when(group(seat("o1"), seat("o2", 250), release_requested("o3"), seat("o3"))).then(
        "HoldRequested authorise:1 100", "o2: HoldRequested authorise:1 250", "o3: PaymentReleased"
    )


def test_group_events_that_are_not_about_money_are_ignored() -> None:
    given(reserved()).when(expired()).then_nothing()


def test_a_seat_without_an_amount_faults() -> None:
    given().when(reserved(amount=0)).then("Faulted Impossible")


def test_an_error_in_one_order_does_not_stop_the_others_of_its_decision() -> None:
    given().when(group(seat("o1"), seat("o2", 0), seat("o3"))).then(
        "HoldRequested authorise:1 100", "o3: HoldRequested authorise:1 100", "Faulted Impossible"
    )


def test_amounts_are_integers_of_minor_units_whatever_the_currency() -> None:
    for currency, amount in (("JPY", 1500), ("KWD", 12_345), ("CNY", 8900)):
        scenario = given(reserved(amount=amount, currency=currency)).when(authorised(amount=amount, currency=currency))
        body = scenario.events[0].hold_authorised
        assert (body.amount_minor, body.currency) == (amount, currency)


def test_a_hold_has_the_time_until_which_it_can_be_captured() -> None:
    scenario = given(reserved()).when(authorised()).then("HoldAuthorised h1 100")
    body = scenario.events[0].hold_authorised
    assert (body.capturable_until_ms, body.attempt, body.operation) == (START_MS * 2, 1, AUTHORISE)


def test_duplicate_reports_of_a_hold_change_nothing() -> None:
    scenario = given(reserved()).when(authorised())
    for _ in range(10):
        scenario.when(authorised()).then_nothing()


def test_a_decline_has_its_reason() -> None:
    scenario = given(reserved()).when(declined(reason="stolen")).then("HoldDeclined")
    assert scenario.events[0].hold_declined.reason == "stolen"
    scenario.when(declined(reason="stolen")).then_nothing()


def test_a_decline_after_the_hold_is_ignored() -> None:
    given(reserved(), authorised()).when(declined()).then_nothing()


def test_a_hold_after_its_decline_is_returned() -> None:
    given(reserved(), declined()).when(authorised()).then("SuspenseRecorded h1 100 CNY", "VoidRequested void:1 h1 100")


def test_a_call_proven_absent_is_made_again_under_the_next_attempt() -> None:
    scenario = given(reserved()).when(absent()).then("CallRetried authorise:2 100")
    assert scenario.calls == ["o1:authorise:2"]
    call = scenario.events[0].call_retried.call
    assert (call.customer, call.payment_method, call.hold_until_ms) == (
        "customer of o1",
        "card_ok",
        START_MS + 86_400_000,
    )
    scenario.when(absent()).then_nothing()
    scenario.when(authorised(attempt=2)).then("HoldAuthorised h1 100")


def test_the_hold_of_a_call_wrongly_proven_absent_is_returned() -> None:
    scenario = given(reserved(), absent()).when(authorised("h1"))
    scenario.then("SuspenseRecorded h1 100 CNY", "VoidRequested void:1 h1 100")
    scenario.when(authorised("h2", attempt=2)).then("HoldAuthorised h2 100")
    scenario.when(voided("h1")).then("Voided h1 100")


def test_a_payment_that_ended_at_the_provider_before_its_hold_is_declined() -> None:
    given(reserved()).when(hold_gone(AUTHORISE)).then("HoldDeclined")


# Confirmation by the shopper ----------------------------------------------------------------------------------------


def test_a_confirmation_is_requested_once_and_polled() -> None:
    scenario = (
        given(reserved()).when(action_required()).then("ActionRequired h1 https://confirm", "CallDeferred authorise:1")
    )
    assert scenario.events[1].call_deferred.retry_at_ms == scenario.now_ms + 5_000
    assert scenario.calls == []
    scenario.when(action_required()).then_nothing()
    scenario.when(tick(), after_ms=5_000).then("CallRetried authorise:1 100")
    scenario.when(action_required()).then("CallDeferred authorise:1")
    assert scenario.events[0].call_deferred.retry_at_ms == scenario.now_ms + 10_000


def test_a_confirmation_is_polled_at_least_every_minute() -> None:
    scenario = given(reserved(), action_required())
    for _ in range(10):
        due = scenario.domain.due(scenario.state)
        scenario.when(tick(), after_ms=due - scenario.now_ms).then("CallRetried authorise:1 100")
        scenario.when(action_required()).then("CallDeferred authorise:1")
    assert scenario.events[0].call_deferred.retry_at_ms == scenario.now_ms + 60_000


def test_a_new_confirmation_address_is_passed_on() -> None:
    given(reserved(), action_required()).when(action_required(url="https://other")).then(
        "ActionRequired h1 https://other"
    )


def test_a_confirmed_payment_is_held() -> None:
    scenario = given(reserved(), action_required()).when(authorised()).then("HoldAuthorised h1 100")
    assert scenario.domain.due(scenario.state) is None


def test_a_deferred_confirmation_is_still_polled_within_a_minute() -> None:
    scenario = given(reserved(), action_required())
    for _ in range(8):
        scenario.when(tick(), after_ms=scenario.domain.due(scenario.state) - scenario.now_ms).when(retry_later())
    assert scenario.events[0].call_deferred.retry_at_ms <= scenario.now_ms + 60_000


# Wrong money --------------------------------------------------------------------------------------------------------


def test_a_hold_of_another_amount_is_returned_and_the_order_declined() -> None:
    scenario = given(reserved()).when(authorised(amount=90))
    scenario.then("HoldDeclined", "SuspenseRecorded h1 90 CNY", "VoidRequested void:1 h1 90")
    scenario.when(voided()).then("Voided h1 90")


def test_a_hold_in_another_currency_is_returned_in_that_currency() -> None:
    scenario = given(reserved()).when(authorised(currency="JPY"))
    scenario.then("HoldDeclined", "SuspenseRecorded h1 100 JPY", "VoidRequested void:1 h1 100")
    assert scenario.events[2].void_requested.call.currency == "JPY"
    scenario.when(voided())
    assert scenario.events[0].voided.currency == "JPY"


def test_a_wrong_amount_after_a_confirmation_is_not_a_release() -> None:
    scenario = given(reserved(), action_required()).when(authorised(amount=90))
    scenario.then("HoldDeclined", "SuspenseRecorded h1 90 CNY", "VoidRequested void:1 h1 90")
    scenario.when(voided()).then("Voided h1 90")
    scenario.when(release()).then("PaymentReleased")


def test_a_hold_without_a_reference_is_ignored_and_the_call_retried() -> None:
    given(reserved()).when(authorised(hold="")).then("CallDeferred authorise:1")


def test_unexpected_funds_without_a_reference_fault() -> None:
    given(reserved()).when(authorised(hold="", attempt=7)).then("Faulted Impossible")


def test_a_result_with_an_ended_hold_is_a_decline() -> None:
    scenario = given(reserved(), authorised("h9", attempt=4), voided("h9"))
    scenario.when(authorised("h9")).then("HoldDeclined")


def test_voiding_the_confirmation_of_an_absent_attempt_does_not_end_the_next_attempt() -> None:
    scenario = given(reserved(), action_required("h1"), absent()).when(release()).then("VoidRequested noted")
    # The next attempt may have opened a hold: the release waits for its result and returns the money.
    scenario.when(action_required("h2", attempt=2)).then(
        "ActionRequired h2 https://confirm", "CallDeferred authorise:2", "VoidRequested void:1 h2"
    )
    scenario.when(voided("h2")).then("Voided h2 0", "PaymentReleased")
