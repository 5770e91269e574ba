"""Every payment has exactly one status, each documented status is reachable, and the audit derives the same names."""

from __future__ import annotations

import pytest
from groupbuy.payments.v1 import decisions_pb2 as pb
from groupbuy.payments.v1.decisions_pb2 import PaymentDecision
from hypothesis import given as arbitrary
from hypothesis import settings
from hypothesis import strategies as st

from ops.audit.findings import Findings
from ops.audit.money.group_payments import GroupPaymentsFold
from ops.audit.money.status import STATUSES, status_of
from services.payments.api.mapping import payment_of
from services.payments.domain.state.model import Call, GroupPayments, Hold, Intent, Payment, Record
from services.payments.domain.state.status import Status, status
from services.payments.domain.transitions import STATES
from tests.scenarios import payments as s
from tests.scenarios.facts import GROUP
from tests.unit.payments.test_table import REACHED

OPERATIONS = (pb.OPERATION_AUTHORISE, pb.OPERATION_SALE, pb.OPERATION_CAPTURE, pb.OPERATION_VOID, pb.OPERATION_REFUND)
NAMES = st.sampled_from(["", "h1", "h2"])
AMOUNTS = st.sampled_from([0, 60, 100])
FLAGS = st.booleans()
CALLS = st.builds(
    Call,
    st.sampled_from(OPERATIONS),
    st.integers(1, 3),
    AMOUNTS,
    NAMES,
    st.sampled_from(["", "r1"]),
    retry_at_ms=st.sampled_from([0, 1]),
)
HOLDS = st.builds(Hold, st.just("CNY"), held=AMOUNTS, taken=AMOUNTS, returned=AMOUNTS, suspense=AMOUNTS)
RECORD_FIELDS = {
    "intent": st.sampled_from(Intent),
    "sale": FLAGS,
    "renewed": FLAGS,
    "declined": FLAGS,
    "released": FLAGS,
    "lapsed": FLAGS,
    "captured": AMOUNTS,
    "refunded": AMOUNTS,
    "hold": NAMES,
}
RECORDS = st.builds(Record, **RECORD_FIELDS)
PAYMENTS = st.builds(
    Payment,
    **RECORD_FIELDS,
    action_url=st.sampled_from(["", "https://confirm"]),
    action_hold=NAMES,
    holds=st.dictionaries(NAMES, HOLDS, max_size=3),
    calls=st.lists(CALLS, max_size=4).map(lambda calls: {(call.operation, call.attempt): call for call in calls}),
)


@arbitrary(st.one_of(st.none(), RECORDS, PAYMENTS))
@settings(max_examples=2_000, deadline=None, derandomize=True)
def test_every_combination_of_fields_has_a_status_and_an_api_state(payment: Record | None) -> None:
    found = status(payment)
    assert found in Status
    if payment is not None:
        payments = GroupPayments("g", {"o1": payment})
        assert (payment_of(payments, "o1") is None) == (found is Status.UNKNOWN)


@pytest.mark.parametrize("expected", Status)
def test_each_documented_status_is_reachable(expected: Status) -> None:
    scenario = s.current(*REACHED[expected][0])
    assert status(scenario.state.orders.get("o1")) is expected


def test_documentation_and_audit_have_the_same_names() -> None:
    assert set(STATES) == set(Status) == set(STATUSES)


@pytest.mark.parametrize("expected", Status)
def test_the_audit_derives_the_same_status_from_the_log(expected: Status) -> None:
    scenario = s.current(*REACHED[expected][0])
    assert audited(scenario.log) == ({} if expected is Status.UNKNOWN else {"o1": expected})


def audited(log: list[bytes]) -> dict[str, str]:
    """The audit's status of each order after a log of decisions."""
    fold = GroupPaymentsFold(GROUP, Findings())
    for value in log:
        fold.take(value, PaymentDecision.FromString(value), log_trimmed=False)
    return {order: status_of(payment) for order, payment in fold.payments.items()}
