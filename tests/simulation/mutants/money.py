"""Bugs planted in the rules of payments: holds, captures, refunds, and the results of provider calls."""

from __future__ import annotations

from services.payments.domain import next_steps, unexpected_funds
from services.payments.domain.domain import GroupPaymentsDomain
from services.payments.domain.folds import evolve_holds
from services.payments.domain.inputs import (
    late_results,
    on_group_event,
    on_provider_result,
    on_refund_command,
    on_timer,
    refund_results,
)
from services.payments.domain.output import provider_calls
from services.payments.domain.state.model import Payment
from tests.simulation.mutants.planting import Mutant, mutant

MONEY: tuple[Mutant, ...] = (
    mutant(
        "captured_without_completion",
        "money is captured as soon as it is held",
        (
            evolve_holds._hold_authorised,
            "payment.hold = body.hold\n",
            "payment.hold = body.hold\n    payment.intent = Intent.CAPTURE\n"
            "    payment.to_capture = body.amount_minor\n",
        ),
    ),
    mutant(
        "captured_all_that_is_held",
        "the whole hold is captured, not the tier's price",
        (
            on_group_event._charge,
            "yield request(order, payment, amount)",
            "yield request(order, payment, hold.held or amount)",
        ),
    ),
    mutant(
        "sale_difference_kept",
        "the excess of a sale is kept",
        (
            on_group_event._charge,
            "elif (excess := hold.taken - hold.returned - payment.disputed(payment.hold) - amount) > 0:",
            "elif False:",
        ),
    ),
    mutant(
        "late_hold_not_voided",
        "a hold without a pending call is ignored",
        (late_results.authorised, "record is not None and record.knows(body.hold)", "True"),
    ),
    mutant(
        "hold_after_release_kept",
        "a hold that arrives after the release stays",
        (Payment.must_release, "self.intent is Intent.RELEASE or ", ""),
    ),
    mutant(
        "release_never_reported",
        "the end of a release is not reported",
        (next_steps._release, "if not payment.released and payment.idle() and", "if False and"),
    ),
    mutant(
        "release_ignored",
        "a release while money is held does nothing",
        (
            on_group_event._release_requested,
            "if record is not None and record.intent is Intent.RELEASE:",
            "if record is not None and record.intent is not Intent.NONE:",
        ),
    ),
    mutant(
        "release_reported_early",
        "a release is reported before the money is returned",
        (next_steps._release, "payment.idle()", "True"),
    ),
    mutant(
        "hold_requested_twice",
        "a duplicate reservation requests a second hold",
        (on_group_event._seat_reserved, "record is not None and record.intent is not Intent.NONE", "False"),
    ),
    mutant(
        "void_booked_unproven",
        "a void that never arrived counts as done",
        (
            on_provider_result._absent,
            "elif payment.intent is not",
            "elif call.operation == pb.OPERATION_VOID:\n"
            "        yield events.voided(order, call.hold, payment.holds[call.hold].held, payment.currency)\n"
            "    elif payment.intent is not",
        ),
    ),
    mutant(
        "absent_taken_as_done",
        "a capture that never arrived counts as done",
        (
            on_provider_result._absent,
            "elif payment.intent is not",
            "elif call.operation == pb.OPERATION_CAPTURE:\n"
            "        released = payment.holds[call.hold].held - call.amount\n"
            "        yield events.captured(order, payment, call.amount, released)\n    elif payment.intent is not",
        ),
    ),
    mutant(
        "unknown_taken_as_declined",
        "a time-out counts as a decline",
        (
            on_provider_result._retry_later,
            "if not call.retry_at_ms:",
            "yield from _declined(payments, payment, call, outcome, at_ms)\n    if False:",
        ),
    ),
    mutant(
        "unknown_never_retried",
        "a call without a result is not retried",
        (GroupPaymentsDomain.due, "if state.retries", "if False"),
    ),
    mutant(
        "retries_lose_their_key",
        "a retried call gets a new key",
        (on_timer.retry_due_calls, "call.attempt)", "payment.next_attempt(call.operation))"),
    ),
    mutant("key_reused", "all attempts have one key", (provider_calls.idempotency_key, "{call.attempt}", "1")),
    mutant(
        "key_of_the_operation_alone",
        "capture and void share a key",
        (
            provider_calls.idempotency_key,
            "{_OPERATION_NAMES[call.operation]}",
            "{_OPERATION_NAMES[call.operation][:0]}",
        ),
    ),
    mutant(
        "capture_reported_twice_counts_twice",
        "a duplicate report of a capture counts as new money",
        (unexpected_funds.on_captured, "if record is not None and record.has_taken(hold):", "if False:"),
    ),
    mutant(
        "unexpected_capture_kept",
        "unexpected money is kept",
        (
            unexpected_funds.on_captured,
            "yield from return_funds(",
            "return\n    yield from return_funds(",
        ),
    ),
    mutant(
        "suspense_not_returned",
        "money in suspense is recorded and not returned",
        (unexpected_funds.return_funds, "yield request(", "return\n    yield request("),
    ),
    mutant(
        "lapsed_hold_charged",
        "a lapsed hold is not renewed, but reported as charged",
        (
            on_group_event._charge,
            "request = events.capture_requested if hold.held else events.hold_renewed\n"
            "        yield request(order, payment, amount)",
            "if hold.held:\n            yield events.capture_requested(order, payment, amount)\n"
            "        else:\n            yield events.captured(order, payment, amount, 0)",
        ),
    ),
    mutant(
        "refund_repeated",
        "a duplicate refund command pays again",
        (
            on_refund_command.on_refund_command,
            "record is not None and record.refunds is not None and command.refund in record.refunds",
            "False",
        ),
    ),
    mutant(
        "refund_above_captured",
        "a refund may exceed the amount left",
        (on_refund_command._decline_reason, "0 <= amount <= left", "0 <= amount"),
    ),
    mutant(
        "refund_of_claimed_money", "pending refunds are not counted", (Payment.refundable, " - self._claimed()", "")
    ),
    mutant(
        "refund_without_result",
        "a refund that can't be made is not declined",
        (
            on_refund_command.on_refund_command,
            "if record is None or reason:",
            "if record is None or reason:\n        return\n    if False:",
        ),
    ),
    mutant(
        "excess_returned_twice",
        "money whose return is pending is returned again",
        (next_steps._return_money, 'excess > 0 and payment.pending_refund(reference, "") is None', "excess > 0"),
    ),
    mutant(
        "excess_never_returned",
        "taken money of a release is not refunded",
        (next_steps._return_money, "excess > 0 and", "False and"),
    ),
    mutant(
        "captured_and_released_at_once",
        "the rest of a captured hold is not booked as released",
        (unexpected_funds._book_capture, "booked, held - booked)", "booked, 0)"),
    ),
    mutant(
        "refund_declined_as_done",
        "a declined refund counts as paid",
        (
            refund_results._refund_declined,
            "yield events.refund_declined(order, call.refund, reason, call.amount, digest)",
            "yield events.refunded(order, call.hold, call.amount, payment.currency, call.refund)",
        ),
    ),
)
