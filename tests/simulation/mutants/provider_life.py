"""Bugs planted in the rules of the provider's life: owed money, disputes, persons, suspense, operators."""

from __future__ import annotations

from services.payments.domain import next_steps, owed, unexpected_funds
from services.payments.domain.folds import evolve, evolve_provider_life, evolve_refunds
from services.payments.domain.inputs import (
    late_results,
    on_group_event,
    on_operator_command,
    on_timer,
    provider_news,
    refund_results,
)
from services.payments.domain.output import provider_events
from services.payments.domain.state.model import GroupPayments, Payment, Record, reopened
from services.payments.domain.state.provider_life import Dispute
from tests.simulation.mutants.planting import Mutant, mutant

PROVIDER_LIFE: tuple[Mutant, ...] = (
    # Money owed
    mutant(
        "refused_refund_counts_as_paid",
        "a refused return counts as paid",
        (
            owed.refund_refused,
            "yield events.refund_declined(order, call.refund, reason, call.amount, digest, call.attempt)",
            "yield events.refunded(order, call.hold, call.amount, payment.currency, call.refund, call.attempt)\n"
            "    return",
        ),
    ),
    mutant(
        "owed_never_retried",
        "an owed sum has neither an attempt nor an alarm",
        (owed.owe, "next_ms = at_ms + pause_ms if pause_ms else 0", "next_ms = 0"),
    ),
    mutant(
        "owed_timer_lost",
        "the attempt at an owed sum does not fire",
        (on_timer.fire_due_timers, "yield from owed.request(order, payment, payment.debts[name])", "return"),
    ),
    mutant(
        "owed_timer_not_set",
        "the time of the next attempt is not kept",
        (evolve.evolve, 'elif kind == "money_owed" and body.next_attempt_ms:', "elif False:"),
    ),
    mutant(
        "released_while_owed",
        "a release is reported while money is owed",
        (next_steps._release, " and not payment.debts", ""),
    ),
    mutant(
        "sale_charged_while_owed",
        "a sale is charged while its difference is owed",
        (next_steps._charge, ' and payment.debt(payment.hold, "") is None', ""),
    ),
    mutant(
        "owed_sum_stays",
        "a sum stays owed after it was returned",
        (owed.adjust_debts, "if due != debt.amount:", "if False:"),
    ),
    mutant(
        "owed_never_grows",
        "a released order owes the refused difference alone",
        (owed.adjust_debts, "due = min(debt.amount, due) if debt.refund else due", "due = min(debt.amount, due)"),
    ),
    mutant(
        "debts_of_finished_payments",
        "a payment that owes money is finished",
        (Payment.finished, "self.calls or self.debts or", "self.calls or"),
    ),
    # Refunds that come back
    mutant(
        "reversal_ignored",
        "a refund that comes back is ignored",
        (provider_news._reversed, "if paid is None:", "if True:"),
    ),
    mutant(
        "reversal_not_owed",
        "a refund that comes back is recorded and not owed",
        (provider_news._reversed, "    if due:", "    if False:"),
    ),
    mutant(
        "reversal_counted_twice",
        "a refund comes back with each report",
        (evolve_provider_life._refund_reversed, "(payment.paid or {}).pop(body.attempt, None)", "pass"),
    ),
    mutant(
        "successes_forgotten",
        "succeeded refunds are not kept, so that none can come back",
        (
            evolve_refunds._refunded,
            "paid[body.attempt] = PaidRefund(body.hold, body.refund, body.amount_minor, declined)",
            "pass",
        ),
    ),
    mutant(
        "late_success_ignored",
        "a refused refund that succeeds after all is not booked",
        (refund_results.late_succeeded, "record is None or abandoned is None", "record is None or True"),
    ),
    mutant(
        "reversal_in_part",
        "a part of a refund that comes back is booked",
        (provider_news._reversed, "min(body.amount_minor, paid.amount) or paid.amount", "1"),
    ),
    mutant(
        "late_decline_ignored",
        "a refund that failed after its success counts as paid",
        (refund_results.late_declined, "if paid is None or paid.after_decline:", "if True:"),
    ),
    mutant(
        "stale_decline_counts",
        "an old report of a decline takes back a later success",
        (refund_results.late_declined, "paid is None or paid.after_decline", "paid is None"),
        tests="tests/unit/payments/test_provider_life.py",
    ),
    # Money that went back twice
    mutant(
        "returned_twice_unrecorded",
        "a refund beside a transfer counts as due",
        (refund_results._excess, "return max(amount - max(due, 0), 0)", "return 0"),
    ),
    mutant(
        "returned_twice_is_due_again",
        "money that went back twice is owed when it comes back",
        (provider_news._reversed, "excess = min(twice, amount)", "excess = 0"),
        tests="tests/unit/payments/test_returned_twice.py",
    ),
    mutant(
        "every_late_refund_counts_as_twice",
        "a refund that succeeds late counts as a second return",
        (refund_results._excess, "due = payment.due_beside_disputes(hold) if hold in payment.holds else 0", "due = 0"),
    ),
    # Disputes
    mutant(
        "dispute_ends_without_amount",
        "the end of a dispute moves no money",
        (provider_events.dispute_ended, "minor(known.withdrawn_amount)", "0"),
    ),
    mutant(
        "withdrawn_not_booked",
        "a dispute withdraws nothing in our books",
        (provider_events.dispute_opened, "minor(news.withdrawn_minor)", "0"),
    ),
    mutant(
        "dispute_withdraws_nothing",
        "disputed money can be refunded",
        (Dispute.withdrawn, "return 0 if self.status is DisputeStatus.WON else self.withdrawn_amount", "return 0"),
    ),
    mutant(
        "won_dispute_keeps_money",
        "money of a dispute that was won stays withdrawn",
        (
            Dispute.withdrawn,
            "0 if self.status is DisputeStatus.WON else self.withdrawn_amount",
            "self.withdrawn_amount",
        ),
    ),
    mutant(
        "lost_dispute_gives_money",
        "money of a dispute that was lost is the merchant's",
        (Dispute.withdrawn, "if self.status is DisputeStatus.WON", "if self.status is not DisputeStatus.OPEN"),
    ),
    mutant(
        "dispute_never_ends",
        "the end of a dispute is ignored",
        (provider_news._dispute, "if known is not None and body.state in", "if False and body.state in"),
    ),
    mutant(
        "dispute_ends_twice",
        "each report of a dispute's end counts",
        (provider_news._dispute, "if known is not None and known.status is not DisputeStatus.OPEN:", "if False:"),
    ),
    mutant(
        "won_and_lost_exchanged",
        "a lost dispute counts as won",
        (provider_news._dispute, "won = body.state == DISPUTE_STATE_WON", "won = body.state != DISPUTE_STATE_WON"),
    ),
    mutant(
        "lost_dispute_covers_nothing",
        "a lost dispute reduces the charge by money that was taken above it",
        (Record.charge_left, " + self._covered()", ""),
        tests="tests/unit/payments/test_provider_life.py",
    ),
    mutant(
        "balances_forgotten",
        "a refund that comes back beside a lost dispute is owed in part",
        (reopened, "(record.balances or {}).items()", "()"),
    ),
    mutant(
        "warning_repeated",
        "a fraud warning is recorded with each report",
        (provider_news._fraud_warning, 'if f"warning {body.warning}" not in record.references:', "if True:"),
    ),
    # Persons
    mutant(
        "refund_by_hand_ignored",
        "a refund by hand is not recorded",
        (
            provider_news._external,
            'if f"operation {body.reference}" in record.references:',
            "if body.operation == pb.OPERATION_REFUND:",
        ),
    ),
    mutant(
        "refund_by_hand_twice",
        "a refund by hand counts with each report",
        (provider_news._external, 'if f"operation {body.reference}" in record.references:', "if False:"),
    ),
    mutant(
        "refund_by_hand_unbooked",
        "a refund by hand is recorded, and the money is returned again",
        (evolve_provider_life._external_operation, "    hold.returned += amount\n", "    pass\n"),
    ),
    mutant(
        "capture_by_hand_ignored",
        "a capture by hand leaves the money out of our books",
        (
            provider_news._captured_by_a_person,
            "yield from unexpected_funds.on_captured(",
            "return\n    yield from unexpected_funds.on_captured(",
        ),
    ),
    mutant(
        "news_need_an_order",
        "news that name the hold alone are lost",
        (provider_news.order_of, "payments.order_of(hold) or outcome.order", "outcome.order"),
    ),
    mutant(
        "whole_sale_returned_again",
        "a release returns what a person has returned before",
        (on_group_event._begin_release, " and not hold.returned and not payment.disputes", ""),
    ),
    mutant(
        "fee_repeated",
        "a fee is booked with each report",
        (provider_news._fee, ' and f"fee {body.reference}" not in record.references', ""),
    ),
    mutant(
        "payout_repeated",
        "a payout is booked with each report",
        (provider_news._paid_out, ' and f"payout {body.reference}" not in record.references', ""),
    ),
    mutant(
        "references_forgotten",
        "references of what was recorded are not kept",
        (evolve_provider_life._remember, "(*payment.references, reference)", "payment.references"),
    ),
    mutant(
        "fee_with_the_wrong_sign",
        "a fee is booked as income",
        (provider_events.fee_charged, "signed(news.amount_minor)", "signed(-news.amount_minor)"),
    ),
    # Suspense
    mutant(
        "suspense_never_due",
        "unexpected funds wait for ever",
        (evolve.evolve, 'elif kind == "suspense_recorded" and body.return_at_ms:', "elif False:"),
    ),
    mutant(
        "suspense_returned_the_wrong_way",
        "taken funds are voided, and held funds refunded",
        (unexpected_funds.request_return, "if known.suspense_taken else", "if not known.suspense_taken else"),
    ),
    mutant(
        "kept_funds_returned",
        "funds that an operator keeps are returned all the same",
        (evolve_provider_life._suspense_kept, "hold.suspense -= body.amount_minor", "pass"),
    ),
    mutant(
        "late_sale_kept",
        "a sale that is reported after its close is kept",
        (late_results.authorised, "if payments.rules_version > 1 and", "if False and"),
    ),
    # Operators
    mutant(
        "reason_not_recorded",
        "the reason of a command is not recorded",
        (provider_events.operator_acted, "body.reason = command.reason", 'body.reason = ""'),
    ),
    mutant(
        "transfer_without_reference",
        "the reference of a transfer is not recorded",
        (provider_events.returned_outside, "body.reference = reference", 'body.reference = ""'),
    ),
    mutant(
        "command_repeated",
        "a command is done with each copy",
        (on_operator_command.on_operator_command, "if command.request_id in payments.actions:", "if False:"),
    ),
    mutant(
        "returned_outside_without_limit",
        "more than is owed is marked as returned",
        (on_operator_command._returned_outside, "not 0 < body.amount_minor <= debts[0].amount", "False"),
    ),
    mutant(
        "returned_outside_stays_owed",
        "a sum that was returned by other means is refunded again",
        (evolve_provider_life._returned_outside, ".returned += body.amount_minor", ".returned += 0"),
    ),
    mutant(
        "adjusted_by_one",
        "one operator adjusts the ledger alone",
        (on_operator_command._approve, "if wanted.operator == command.operator:", "if False:"),
    ),
    mutant(
        "held_funds_kept",
        "funds that are held and not taken are kept",
        (on_operator_command._keep, "if not hold.suspense_taken:", "if False:"),
    ),
    # Timers
    mutant(
        "stale_timers_kept",
        "a timer that is obsolete stays the first",
        (GroupPayments.drop_stale_retries, "while self.timers and not self._is_set(self.timers[0]):", "while False:"),
    ),
)
