"""Bugs planted around the settlement: checks of holds before it, and what follows when captures fail."""

from __future__ import annotations

from services.groups.domain import evolve as group_evolve
from services.groups.domain import on_payment_event
from services.payments.domain.folds import evolve, evolve_holds
from services.payments.domain.inputs import on_group_event, on_provider_result, on_timer
from services.payments.domain.state.model import GroupPayments
from tests.simulation.mutants.planting import Mutant, mutant

SETTLEMENT: tuple[Mutant, ...] = (
    # Checks of holds
    mutant(
        "old_holds_not_checked",
        "no hold is checked before its group closes",
        (on_group_event._check_at_ms, "if held and check_at_ms - at_ms >= after_ms", "if False"),
    ),
    mutant(
        "young_holds_checked",
        "holds are checked whatever their age",
        (on_group_event._check_at_ms, ">= after_ms", ">= 0"),
    ),
    mutant(
        "check_does_not_fire",
        "the time of a check passes without the check",
        (on_timer.fire_due_timers, "yield events.hold_check_requested(order, payment)", "return"),
    ),
    mutant(
        "check_repeated_for_ever",
        "a check stays due after it was made",
        (evolve_holds._hold_check_requested, "payment.check_at_ms = 0", "pass"),
    ),
    mutant(
        "check_outlives_the_group",
        "a hold is checked although its group has closed",
        (GroupPayments._is_set, " and payment.intent is Intent.HOLD", ""),
    ),
    mutant(
        "check_blocks_the_release",
        "a release waits for the check of the hold",
        (evolve.evolve, "payment.calls.pop(CHECK, None)", "pass"),
    ),
    mutant(
        "check_counts_every_hold_as_open",
        "a check that finds the hold ended changes nothing",
        (
            on_provider_result._checked_ended,
            "yield from provider_news.hold_ended(outcome.order, payment, call.hold, voided=voided)",
            "return",
        ),
    ),
    mutant(
        "check_ends_without_its_result",
        "an ended hold is reported as open by its check",
        (on_provider_result._checked_ended, "ended=True", "ended=False"),
    ),
    # Settlements that do not fit
    mutant(
        "mismatch_is_a_fault",
        "a settlement that does not fit its hold is a fault of the rules",
        (on_group_event._settlement_requested, "elif payments.rules_version < 2:", "elif True:"),
    ),
    mutant(
        "mismatch_without_alarm",
        "a settlement that does not fit its hold raises no alarm",
        (
            on_group_event._settlement_requested,
            'yield events.suspense_recorded(order, hold, 0, currency, f"{MISMATCH}: {mismatch}")',
            "pass",
        ),
    ),
    # Money owed after the end of a group
    mutant(
        "group_done_while_owed",
        "a group does not learn that money is owed",
        (on_payment_event.note_owed, "known != bool(message.amount_minor)", "False"),
    ),
    mutant(
        "group_owes_for_ever",
        "a group does not learn that a sum was returned",
        (
            on_payment_event.note_owed,
            "known != bool(message.amount_minor)",
            "not known and message.amount_minor",
        ),
    ),
    mutant(
        "old_copy_of_a_debt_counts",
        "a copy of an older decision of payments counts",
        (on_payment_event.note_owed, "if item.payments_version < state.owed_version:", "if False:"),
        tests="tests/unit/groups/test_money.py",
    ),
    mutant(
        "group_told_of_each_attempt",
        "each attempt at a sum counts as a new one",
        (on_payment_event.note_owed, "known != bool(message.amount_minor)", "True"),
    ),
    mutant(
        "owed_sum_of_a_group_forgotten",
        "a group forgets what is owed",
        (group_evolve._member_owed, "state.owed[key] = event.amount_minor", "pass"),
    ),
)
