"""Bugs planted in the purse and its effects: holds, captures, refunds, what is made of a provider's answers."""

from __future__ import annotations

from services.payments.domain import (
    calls,
    evolve,
    next_steps,
    on_group_event,
    on_provider_result,
    on_refund_command,
    results,
    retries,
    unexpected_funds,
)
from services.payments.domain.domain import PurseDomain
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
            "yield made(order, payment, amount)",
            "yield made(order, payment, hold.held or amount)",
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
        (results._authorised, "record is not None and record.knows(body.hold)", "True"),
    ),
    mutant(
        "hold_after_release_kept",
        "a hold that comes after the release stays",
        (Payment.must_go, "self.intent is Intent.RELEASE or ", ""),
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
            on_group_event._release,
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
        (on_group_event._reserve, "record is not None and record.intent is not Intent.NONE", "False"),
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
            "yield from _declined(purse, payment, call, outcome, at_ms)\n    if False:",
        ),
    ),
    mutant(
        "unknown_never_asked_again",
        "a call without an answer is left alone",
        (PurseDomain.due, "if state.retries", "if False"),
    ),
    mutant(
        "retries_lose_their_key",
        "a call asked again gets a new key",
        (retries.ask_again, "call.attempt)", "payment.next_attempt(call.operation))"),
    ),
    mutant("key_reused", "all attempts have one key", (calls.key, "{call.attempt}", "1")),
    mutant(
        "key_of_the_operation_alone",
        "capture and void have one key",
        (calls.key, "{_NAMES[call.operation]}", "{_NAMES[call.operation][:0]}"),
    ),
    mutant(
        "capture_told_twice_counts_twice",
        "a repeated report of a capture is taken for new money",
        (unexpected_funds.captured, "if record is not None and record.took(hold):", "if False:"),
    ),
    mutant(
        "unasked_capture_kept",
        "money taken unasked is kept",
        (
            unexpected_funds.captured,
            "yield from return_funds(",
            "return\n    yield from return_funds(",
        ),
    ),
    mutant(
        "suspense_not_sent_back",
        "money in suspense is recorded and kept",
        (unexpected_funds.return_funds, "yield made(", "return\n    yield made("),
    ),
    mutant(
        "lapsed_hold_charged",
        "a hold that lapsed is not renewed, and said to be charged",
        (
            on_group_event._charge,
            "made = requests.capture_requested if hold.held else requests.hold_renewed\n"
            "        yield made(order, payment, amount)",
            "if hold.held:\n            yield requests.capture_requested(order, payment, amount)\n"
            "        else:\n            yield events.captured(order, payment, amount, 0)",
        ),
    ),
    mutant(
        "refund_repeated",
        "a repeated refund command pays again",
        (
            on_refund_command.refund,
            "record is not None and record.refunds is not None and command.refund in record.refunds",
            "False",
        ),
    ),
    mutant(
        "refund_above_captured",
        "a refund may be larger than what is left",
        (on_refund_command._refusal, "0 <= amount <= left", "0 <= amount"),
    ),
    mutant(
        "refund_of_claimed_money", "refunds under way are not counted", (Payment.refundable, " - self._commanded()", "")
    ),
    mutant(
        "refund_without_answer",
        "a refund that can't be made is not answered",
        (
            on_refund_command.refund,
            "if record is None or refusal:",
            "if record is None or refusal:\n        return\n    if False:",
        ),
    ),
    mutant(
        "excess_returned_twice",
        "money on its way back is sent again",
        (next_steps._let_go, 'excess > 0 and payment.refunding(reference, "") is None', "excess > 0"),
    ),
    mutant(
        "excess_never_returned",
        "taken money of a release is not given back",
        (next_steps._let_go, "excess > 0 and", "False and"),
    ),
    mutant(
        "captured_and_released_at_once",
        "what is not taken of a hold is not booked as let go",
        (unexpected_funds._take, "counts, held - counts)", "counts, 0)"),
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
