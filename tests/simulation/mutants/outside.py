"""Bugs planted where the simulation does not reach: the API of orders, and payouts. Unit tests find them."""

from __future__ import annotations

from ops.audit.money import statement
from ops.statements import payouts
from services.orders.api import mapping
from services.orders.api.placing import recent_requests
from services.orders.domain import order_payment
from services.orders.domain.model import Money
from tests.simulation.mutants.planting import Mutant, getter, mutant

_MONEY = "tests/unit/orders/test_order_money.py"
_REQUESTS = "tests/unit/orders/test_request_ids.py"
_PAYOUTS = "tests/unit/ops/test_reconcile.py"

OUTSIDE: tuple[Mutant, ...] = (
    # Money of an order as GetOrder shows it
    mutant(
        "sale_not_shown_as_taken",
        "an order shows nothing taken by a sale",
        (order_payment._authorised, "money.taken_minor += event.amount_minor", "pass"),
        tests=_MONEY,
    ),
    mutant(
        "returned_money_shown_as_kept",
        "money that was returned is shown as kept",
        (order_payment._refunded, "money.returned_minor += event.amount_minor", "money.returned_minor += 0"),
        tests=_MONEY,
    ),
    mutant(
        "transfer_shown_as_kept",
        "money that was returned by a transfer is shown as kept",
        (order_payment._returned_outside, "money.returned_minor += event.amount_minor", "pass"),
        tests=_MONEY,
    ),
    mutant(
        "second_return_shown_as_refund",
        "money that went back twice is shown as a refund of the charge",
        (
            order_payment._refunded,
            "due_minor = event.amount_minor - event.excess_minor",
            "due_minor = event.amount_minor",
        ),
        tests=_MONEY,
    ),
    mutant(
        "reversal_shown_as_returned",
        "a refund that came back is shown as returned",
        (order_payment._reversed, "money.returned_minor -= event.amount_minor", "pass"),
        tests=_MONEY,
    ),
    mutant(
        "owed_shown_for_ever",
        "a sum that was returned is shown as owed",
        (order_payment._owed, "debts.pop(name, None)", "pass"),
        tests=_MONEY,
    ),
    mutant(
        "owed_sum_not_shown",
        "an order does not show how much is owed",
        (mapping._show_life, "message.owed_minor += one.amount_minor", "message.owed_minor = 0"),
        tests=_MONEY,
    ),
    mutant(
        "disputed_money_shown_as_kept",
        "money that a dispute withdrew is shown as kept",
        (getter(Money, "kept_minor"), " - self.disputed_minor", ""),
        tests=_MONEY,
    ),
    mutant(
        "disputed_money_not_shown",
        "a dispute is shown without the money that it withdrew",
        (order_payment._dispute_opened, "OrderDispute(event.withdrawn_minor)", "OrderDispute(0)"),
        tests=_MONEY,
    ),
    # Request ids
    mutant(
        "request_id_not_remembered",
        "a process forgets the request ids of the orders it placed",
        (recent_requests.RecentRequests.remember, "self._orders[key] = parsed.name", "return"),
        tests=_REQUESTS,
    ),
    mutant(
        "request_id_of_all_customers",
        "a request id is compared among all customers",
        (recent_requests._key, "parsed.request.customer", '""'),
        tests=_REQUESTS,
    ),
    mutant(
        "retry_refused_as_reuse",
        "the retry of an order is refused as the reuse of its request id",
        (recent_requests._check, "name != parsed.name and ", ""),
        tests=_REQUESTS,
    ),
    mutant(
        "customers_orders_not_compared",
        "a restarted process accepts a request id again",
        (recent_requests._check, "name.order == order_id(name.group, customer, request_id)", "False"),
        tests=_REQUESTS,
    ),
    # Payouts
    mutant(
        "payout_difference_accepted",
        "a payout of another amount counts as equal",
        (getter(payouts.Compared, "equal"), "self.ours == self.theirs", "True"),
        tests=_PAYOUTS,
    ),
    mutant(
        "payout_missing_in_the_log_accepted",
        "a payout that the log does not have is not compared",
        (payouts.compare_payouts, "sorted({*ours, *theirs})", "sorted(ours)"),
        tests=_PAYOUTS,
    ),
    mutant(
        "late_payout_is_a_violation",
        "a payout whose news are on their way is a violation",
        (statement.check_payouts, "if not settled and ", "if False and "),
        tests=_PAYOUTS,
    ),
    mutant(
        "payouts_of_one_order_compared",
        "the share of the last order counts as the whole payout",
        (statement.check_payouts, "ours[name] = ours.get(name, 0) + amount", "ours[name] = amount"),
        tests=_PAYOUTS,
    ),
)
