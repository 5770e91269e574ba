"""The domain that the kernel calls: bytes in, bytes out, identical on every machine, small in memory and in the log."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from groupbuy.groups.v1.decisions_pb2 import GroupDecision, GroupEvent
from groupbuy.payments.v1 import decisions_pb2 as pb
from groupbuy.payments.v1 import inbox_pb2 as inbox
from groupbuy.payments.v1.decisions_pb2 import PaymentDecision, PaymentEvent, ProviderCall
from groupbuy.payments.v1.inbox_pb2 import PaymentInput, ProviderOutcome

from eventlog.core.aggregate import Aggregate, decide
from services.payments.domain.domain import GroupPaymentsDomain
from services.payments.domain.errors import AmountOutOfRange, UnknownInput
from services.payments.domain.output.events import MAX_MINOR, minor
from services.payments.domain.output.provider_calls import calls_of, idempotency_key
from services.payments.domain.state.model import GroupPayments, Payment
from services.payments.processors import codec
from tests.scenarios.facts import GROUP
from tests.scenarios.payments import (
    AUTHORISE,
    CAPTURE,
    REFUND,
    SALE,
    VOID,
    authorised,
    captured,
    declined,
    given,
    group,
    refund,
    refunded,
    release,
    reserved,
    retry_later,
    seat,
    settle,
    settlement,
    tick,
    voided,
)

DOMAIN = GroupPaymentsDomain()
LARGEST_RECORD = 1 << 20


def uuid(number: int) -> str:
    return f"{number:08x}-0000-4000-8000-{number:012x}"


# Decoding -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        PaymentInput(),
        PaymentInput(outcome=ProviderOutcome(order="o1", operation=VOID)),
        PaymentInput(outcome=ProviderOutcome(order="o1", absent=inbox.OutcomeAbsent())),
        PaymentInput(
            outcome=ProviderOutcome(order="o1", operation=pb.Operation.ValueType(99), absent=inbox.OutcomeAbsent())
        ),
        PaymentInput(group_decision=GroupDecision(events=[GroupEvent()]).SerializeToString()),
    ],
    ids=["no body", "no result", "no operation", "an unknown operation", "an unknown group event"],
)
def test_an_input_of_an_unknown_kind_is_refused(value: PaymentInput) -> None:
    with pytest.raises(UnknownInput):
        DOMAIN.decode_input(value.SerializeToString())


def test_bytes_that_are_not_an_input_are_refused() -> None:
    with pytest.raises(DecodeError):
        DOMAIN.decode_input(b"\xff\xff")
    with pytest.raises(DecodeError):
        DOMAIN.decode_input(PaymentInput(group_decision=b"\xff\xff").SerializeToString())


def test_a_decision_with_an_unknown_event_is_refused() -> None:
    with pytest.raises(UnknownInput):
        DOMAIN.decode_decision(PaymentDecision(group=GROUP, version=1, events=[PaymentEvent()]).SerializeToString())


def test_a_tick_is_an_input() -> None:
    assert DOMAIN.decode_input(DOMAIN.tick(17)).body.due_ms == 17  # type: ignore[union-attr]


def test_an_encoded_decision_decodes_to_itself() -> None:
    scenario = given().when(reserved())
    sealed = DOMAIN.encode_decision(GROUP, 3, 17, 1_000, b"before", scenario.events)
    opened = DOMAIN.decode_decision(sealed)
    assert (opened.group, opened.version, opened.cause, opened.time_ms) == (GROUP, 3, 17, 1_000)
    assert (opened.previous_sha256, list(opened.events)) == (b"before", scenario.events)


# Money --------------------------------------------------------------------------------------------------------------


def test_amounts_outside_64_bits_are_refused() -> None:
    assert minor(MAX_MINOR) == MAX_MINOR
    for wrong in (MAX_MINOR + 1, -1):
        with pytest.raises(AmountOutOfRange):
            minor(wrong)


def test_the_largest_amount_can_be_held_charged_and_refunded() -> None:
    scenario = given(reserved(amount=MAX_MINOR), authorised(amount=MAX_MINOR), settle(MAX_MINOR))
    scenario.when(captured(amount=MAX_MINOR)).then(f"Captured h1 {MAX_MINOR} released 0")
    scenario.when(refund()).then(f"RefundRequested refund:1 h1 {MAX_MINOR} r1")


# Exactness ----------------------------------------------------------------------------------------------------------


def test_two_owners_write_the_same_bytes_even_if_one_was_restored_from_a_checkpoint() -> None:
    scenario = given(
        group(seat("o1"), seat("o2", method="wallet_ok"), seat("o3")),
        retry_later(),
        retry_later(order="o3"),
        authorised("h9", order="o9"),
        authorised(),
        authorised("h2", order="o1"),
        settle(),
        captured(),
        refund(),
        declined(VOID, order="o9"),
        release("o3"),
        tick(),
    )
    other: Aggregate[GroupPayments] = Aggregate(GROUP, DOMAIN.initial(GROUP))
    written = []
    for offset, (value, at_ms) in enumerate(scenario.inputs):
        other.state = codec.decode(codec.encode(other.state))
        sealed = decide(scenario.domain, other, value, offset, at_ms)
        if sealed is not None:
            written.append(sealed)
    assert written == scenario.log


def test_deciding_alone_changes_nothing() -> None:
    payments = given(reserved(), authorised(), retry_later()).state
    before = codec.encode(payments)
    command = DOMAIN.decode_input(release().SerializeToString())
    next(iter(DOMAIN.decide(payments, command, 1)))
    assert codec.encode(payments) == before


def test_a_fault_is_an_event_and_changes_no_payment() -> None:
    scenario = given(reserved(), authorised())
    before = codec.encode(scenario.state)
    scenario.when(settle(999)).then("Faulted Impossible")
    assert codec.encode(scenario.state) == before


# Size ---------------------------------------------------------------------------------------------------------------


def test_the_largest_decision_fits_into_one_record() -> None:
    orders = [uuid(number) for number in range(2_000)]
    scenario = given(group(*(seat(order, method="card_" + "x" * 40) for order in orders)))
    assert len(scenario.log[-1]) < LARGEST_RECORD
    for number, order in enumerate(orders):
        scenario.inputs.append((b"", scenario.now_ms))
        value = authorised(f"hold_{uuid(number)}", order=order).SerializeToString()
        decide(scenario.domain, scenario.decided, value, len(scenario.inputs), scenario.now_ms)
    scenario.folded.state = scenario.decided.state
    settlements = [settlement(60, order, f"hold_{uuid(number)}") for number, order in enumerate(orders)]
    sealed = decide(scenario.domain, scenario.decided, group(*settlements).SerializeToString(), 10_000, scenario.now_ms)
    assert sealed is not None
    assert len(calls_of(DOMAIN.decode_decision(sealed))) == 2_000
    assert len(sealed) < LARGEST_RECORD


def test_a_finished_payment_shrinks_to_a_record() -> None:
    ends = [
        given(reserved(), authorised(), settle(), captured()),
        given(reserved(), authorised(), settle(), captured(), refund(), refunded(60)),
        given(reserved(), declined()),
        given(reserved(), authorised(), release(), voided()),
        given(release()),
        given(authorised("h9"), voided("h9")),
    ]
    for scenario in ends:
        assert not isinstance(scenario.state.orders["o1"], Payment)
        assert len(codec.encode(scenario.state)) < 500


# Calls --------------------------------------------------------------------------------------------------------------


def test_a_call_is_named_by_its_order_its_operation_and_its_attempt() -> None:
    call = ProviderCall(order="o1", operation=REFUND, attempt=3)
    assert idempotency_key(call) == "o1:refund:3"
    with pytest.raises(KeyError):
        idempotency_key(ProviderCall(order="o1"))


def test_every_request_and_every_retry_is_a_call_and_nothing_else_is() -> None:
    made = [
        PaymentEvent(hold_requested=pb.HoldRequested(call=ProviderCall(order="a", operation=AUTHORISE, attempt=1))),
        PaymentEvent(capture_requested=pb.CaptureRequested(call=ProviderCall(order="b", operation=CAPTURE, attempt=1))),
        PaymentEvent(
            void_requested=pb.VoidRequested(call=ProviderCall(order="c", operation=VOID, attempt=1, hold="h"))
        ),
        PaymentEvent(void_requested=pb.VoidRequested(call=ProviderCall(order="d", operation=VOID))),
        PaymentEvent(refund_requested=pb.RefundRequested(call=ProviderCall(order="e", operation=REFUND, attempt=1))),
        PaymentEvent(call_retried=pb.CallRetried(call=ProviderCall(order="f", operation=SALE, attempt=2))),
        PaymentEvent(call_retried=pb.CallRetried(call=ProviderCall(order="g", operation=VOID, attempt=2, hold="h"))),
        PaymentEvent(call_deferred=pb.CallDeferred(order="g", operation=VOID, attempt=2)),
        PaymentEvent(payment_released=pb.PaymentReleased(order="h")),
    ]
    found = [idempotency_key(call) for call in calls_of(PaymentDecision(events=made))]
    assert found == ["a:authorise:1", "b:capture:1", "c:void:1", "e:refund:1", "f:sale:2"]
