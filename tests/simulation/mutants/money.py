"""Bugs planted in the rules of payments: holds, captures, refunds, and the results of provider calls."""

from __future__ import annotations

from services.payments.domain import (
    events,
    evolve,
    next_steps,
    on_group_event,
    on_provider_result,
    on_refund_command,
    on_timer,
    unexpected_funds,
)
from services.payments.domain.domain import GroupPaymentsDomain
from services.payments.domain.model import Payment
from tests.simulation.mutants.planting import Mutant, mutant

MONEY: tuple[Mutant, ...] = (
    mutant(
        "captured_without_completion",
        "money is taken as soon as it is held",
        (
            evolve._hold_authorised,
            "payment.hold = body.hold\n",
            "payment.hold = body.hold\n    payment.intent = Intent.CAPTURE\n"
            "    payment.to_capture = body.amount_minor\n",
        ),
    ),
    mutant(
        "captured_all_that_is_held",
        "the hold is taken whole, not the tier's price",
        (
            on_group_event._charge,
            "yield request(order, payment, amount)",
            "yield request(order, payment, hold.held or amount)",
        ),
    ),
    mutant(
        "sale_difference_kept",
        "what a sale took too much is kept",
        (on_group_event._charge, "elif hold.taken > amount:", "elif False:"),
    ),
    mutant(
        "late_hold_not_voided",
        "a hold that comes when nobody waits is ignored",
        (on_provider_result._late_authorised, "record is not None and record.knows(body.hold)", "True"),
    ),
    mutant(
        "hold_after_release_kept",
        "a hold that comes after the release stays",
        (Payment.must_release, "self.intent is Intent.RELEASE or ", ""),
    ),
    mutant(
        "release_never_reported",
        "the purse never says that money is back",
        (next_steps._release, "if not payment.released and payment.idle():", "if False:"),
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
        "money is said to be back while it is on its way",
        (next_steps._release, "payment.idle()", "True"),
    ),
    mutant(
        "hold_asked_twice",
        "a repeated reservation asks for a second hold",
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
        "a time-out counts as a refusal",
        (
            on_provider_result._retry_later,
            "if not call.retry_at_ms:",
            "yield from _declined(payments, payment, call, outcome, at_ms)\n    if False:",
        ),
    ),
    mutant(
        "unknown_never_asked_again",
        "a call without an answer is left alone",
        (GroupPaymentsDomain.due, "if state.retries", "if False"),
    ),
    mutant(
        "retries_lose_their_key",
        "a call asked again gets a new key",
        (on_timer.retry_due_calls, "call.attempt)", "payment.next_attempt(call.operation))"),
    ),
    mutant("key_reused", "all attempts have one key", (events.idempotency_key, "{call.attempt}", "1")),
    mutant(
        "key_of_the_operation_alone",
        "capture and void have one key",
        (
            events.idempotency_key,
            "{_OPERATION_NAMES[call.operation]}",
            "{_OPERATION_NAMES[call.operation][:0]}",
        ),
    ),
    mutant(
        "capture_told_twice_counts_twice",
        "a repeated report of a capture is taken for new money",
        (unexpected_funds.on_captured, "if record is not None and record.has_taken(hold):", "if False:"),
    ),
    mutant(
        "unasked_capture_kept",
        "money taken unasked is kept",
        (
            unexpected_funds.on_captured,
            "yield from return_funds(",
            "return\n    yield from return_funds(",
        ),
    ),
    mutant(
        "suspense_not_sent_back",
        "money in suspense is recorded and kept",
        (unexpected_funds.return_funds, "yield request(", "return\n    yield request("),
    ),
    mutant(
        "lapsed_hold_charged",
        "a hold that lapsed is not renewed, and said to be charged",
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
        "a repeated refund command pays again",
        (
            on_refund_command.on_refund_command,
            "record is not None and record.refunds is not None and command.refund in record.refunds",
            "False",
        ),
    ),
    mutant(
        "refund_above_captured",
        "a refund may be larger than what is left",
        (on_refund_command._decline_reason, "0 <= amount <= left", "0 <= amount"),
    ),
    mutant(
        "refund_of_claimed_money", "refunds under way are not counted", (Payment.refundable, " - self._claimed()", "")
    ),
    mutant(
        "refund_without_answer",
        "a refund that can't be made is not answered",
        (
            on_refund_command.on_refund_command,
            "if record is None or reason:",
            "if record is None or reason:\n        return\n    if False:",
        ),
    ),
    mutant(
        "excess_returned_twice",
        "money on its way back is sent again",
        (next_steps._return_money, 'excess > 0 and payment.pending_refund(reference, "") is None', "excess > 0"),
    ),
    mutant(
        "excess_never_returned",
        "taken money of a release is not given back",
        (next_steps._return_money, "excess > 0 and", "False and"),
    ),
    mutant(
        "captured_and_released_at_once",
        "what is not taken of a hold is not booked as let go",
        (unexpected_funds._book_capture, "booked, held - booked)", "booked, 0)"),
    ),
    mutant(
        "refund_declined_as_done",
        "a declined refund counts as paid",
        (
            on_provider_result._refund_declined,
            "yield events.refund_declined(order, call.refund, reason, call.amount, digest)",
            "yield events.refunded(order, call.hold, call.amount, payment.currency, call.refund)",
        ),
    ),
)
