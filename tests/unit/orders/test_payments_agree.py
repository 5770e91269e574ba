"""Goal: an order shows the same money as its payment, though the two services share only a log.

Method: the real payment decider gets random inputs of a group, a merchant and a provider. Each decision is folded, and
the money of the order is compared with that of the payment. The inputs include holds, sales, declines, confirmations,
refunds, releases and unexpected funds.
"""

from __future__ import annotations

from typing import Any

from groupbuy.payments.v1 import decisions_pb2 as p
from groupbuy.payments.v1.inbox_pb2 import PaymentInput
from hypothesis import given, note, settings
from hypothesis import strategies as st

from eventlog.core.aggregate import Aggregate, decide
from services.orders.domain.fold import OrdersFold
from services.orders.domain.model import Money
from services.payments.api.mapping import payment_of
from services.payments.domain.domain import GroupPaymentsDomain
from services.payments.domain.state.model import GroupPayments
from tests.scenarios import inputs
from tests.scenarios.facts import GROUP
from tests.scenarios.group_events import release_requested, seat_reserved, settlement_requested
from tests.scenarios.orders import Payment

HELD, PRICE, FAR_MS = 17800, 15800, 10**15


def reserve(method: str) -> PaymentInput:
    return inputs.group_decided(GROUP, seat_reserved("a", "ann", HELD, payment_method=method, hold_until_ms=1))


def settle(hold: str, amount: int) -> PaymentInput:
    return inputs.group_decided(GROUP, settlement_requested("a", amount, hold))


release = inputs.group_decided(GROUP, release_requested("a"))


def made_by(operation: int, attempt: int) -> str:
    """Reference of the hold that a call makes."""
    return f"{'s' if operation == p.OPERATION_SALE else 'h'}{attempt}"


def results(operation: p.Operation.ValueType, hold: str) -> list[dict[str, Any]]:
    """Possible results of a call of this operation."""
    held = inputs.authorised(hold, HELD, FAR_MS)
    by_operation = {
        p.OPERATION_AUTHORISE: [held, held, inputs.action_required(hold, "https://pay.example")],
        p.OPERATION_SALE: [held, held],
        p.OPERATION_CAPTURE: [inputs.captured(hold, PRICE), inputs.hold_gone(hold)],
        p.OPERATION_VOID: [inputs.voided(hold), inputs.hold_gone(hold)],
        p.OPERATION_REFUND: [inputs.refunded(hold)],
        p.OPERATION_CHECK: [held, inputs.hold_gone(hold)],
    }
    return [*by_operation[operation], inputs.declined("no"), inputs.absent()]


class Both:
    """The payments of a group, and the orders folded from their decisions."""

    def __init__(self) -> None:
        self.domain: Any = GroupPaymentsDomain()
        self.payments: Aggregate[GroupPayments] = Aggregate(GROUP, self.domain.initial(GROUP))
        self.orders = OrdersFold().initial(GROUP)
        self.offset = 0
        #: The group's final instruction, which does not change.
        self.end: PaymentInput | None = None

    def decide(self, record: PaymentInput) -> None:
        self.offset += 1
        value = decide(self.domain, self.payments, record.SerializeToString(), self.offset, self.offset)
        if value is not None:
            note(str(p.PaymentDecision.FromString(value).events))
            Payment(value).fold(self.orders)

    def next_input(self, data: st.DataObject) -> PaymentInput:
        """A random next input, mostly the result of a call in flight."""
        payment = self.payments.state.payment("a")
        calls = list(payment.calls.values()) if payment is not None else []
        match data.draw(st.integers(0, 9)):
            case 0 | 1 if payment is None or payment.hold or self.end or data.draw(st.booleans()):
                hold = payment.hold if payment is not None else ""
                # A capture is requested only for a hold.
                ends = [settle(hold, PRICE), settle(hold, HELD), release] if hold else [release]
                self.end = self.end or data.draw(st.sampled_from(ends))
                return self.end
            case 2:
                refund = f"r{data.draw(st.integers(1, 2))}"
                return inputs.refund_command("a", refund, data.draw(st.sampled_from([0, 100])))
            case 3 | 4 | 5 | 6 | 7 if calls:
                call = data.draw(st.sampled_from(calls))
                choices = results(call.operation, call.hold or made_by(call.operation, call.attempt))
                # The first two are successes.
                return inputs.provider_result(
                    "a", call.operation, call.attempt, **data.draw(st.sampled_from([*choices[:2] * 2, *choices]))
                )
            case _:
                operation = data.draw(st.sampled_from(p.Operation.values()[1:]))
                attempt = data.draw(st.integers(1, 3))
                makes_hold = operation in {p.OPERATION_AUTHORISE, p.OPERATION_SALE}
                hold = made_by(operation, attempt) if makes_hold else data.draw(st.sampled_from(["h1", "h2", "s1"]))
                return inputs.provider_result(
                    "a", operation, attempt, **data.draw(st.sampled_from(results(operation, hold)))
                )

    def compare(self) -> None:
        payment = payment_of(self.payments.state, "a")
        order = self.orders.orders.get("a")
        money = (order.money if order else None) or Money()
        if payment is not None:
            shown = (money.held_minor, money.captured_minor, money.refunded_minor, money.action_url)
            assert shown == (payment.held, payment.captured, payment.refunded, payment.action_url)


@given(st.sampled_from(["card_ok", "wallet_ok"]), st.integers(0, 12), st.data())
@settings(max_examples=200, deadline=None)
def test_an_order_shows_the_money_that_its_payment_shows(method: str, steps: int, data: st.DataObject) -> None:
    both = Both()
    both.decide(reserve(method))
    for _ in range(steps):
        both.decide(both.next_input(data))
        both.compare()
