"""If the broker lost their offset, effects resume at the oldest decision whose call has no result."""

from __future__ import annotations

from types import SimpleNamespace

from groupbuy.payments.v1.inbox_pb2 import PaymentInput

from services.payments.processors.effects import PaymentEffectHandler, PendingPaymentCalls
from services.payments.processors.sequencer import PaymentInboxMapper
from tests.scenarios.facts import GROUP
from tests.scenarios.payments import (
    PaymentsScenario,
    authorised,
    captured,
    declined,
    given,
    refund,
    refunded,
    release,
    reserved,
    retry_later,
    settle,
    tick,
    voided,
)


def unsettled(scenario: PaymentsScenario, *, repeated: bool = False) -> PendingPaymentCalls:
    calls = PaymentEffectHandler(lambda _: None, lambda: 0).pending_calls()  # type: ignore[arg-type,return-value]
    log = scenario.log * 2 if repeated else scenario.log
    for offset, value in enumerate(log):
        calls.take(SimpleNamespace(key=GROUP.encode(), value=value, offset=offset))
    return calls


def test_a_call_is_pending_from_its_request_to_its_result() -> None:
    scenario = given(reserved("o1"), reserved("o2"))
    assert unsettled(scenario).earliest() == 0
    scenario.when(authorised())
    assert unsettled(scenario).earliest() == 1
    scenario.when(declined(order="o2"))
    assert unsettled(scenario).earliest() is None


def test_every_kind_of_call_ends_with_its_result() -> None:
    kept = given(reserved(), authorised(), settle(60))
    assert unsettled(kept).earliest() == 2
    kept.when(captured())
    assert unsettled(kept).earliest() is None
    kept.when(refund(amount=20))
    assert unsettled(kept).earliest() == 4
    kept.when(refunded(20))
    assert unsettled(kept).earliest() is None
    freed = given(reserved(), authorised(), release())
    assert unsettled(freed).earliest() == 2
    assert unsettled(freed.when(voided())).earliest() is None


def test_a_deferred_call_is_requested_again_by_a_later_decision() -> None:
    scenario = given(reserved(), retry_later())
    assert unsettled(scenario).earliest() is None
    scenario.when(tick(), after_ms=1_000)
    assert unsettled(scenario).earliest() == 2


def test_duplicates_in_the_log_change_nothing() -> None:
    assert unsettled(given(reserved(), authorised(), settle(60)), repeated=True).earliest() == 2
    assert unsettled(given(reserved(), authorised()), repeated=True).earliest() is None


def test_only_a_copied_record_has_a_source() -> None:
    copying = PaymentInboxMapper()
    assert copying.source_of(tick().SerializeToString()) is None
    assert copying.source_of(b"\xff\xff") is None
    copied = PaymentInput(group_decision=b"x")
    copied.source.topic, copied.source.partition, copied.source.offset = "groups.group.v1", 3, 17
    assert copying.source_of(copied.SerializeToString()) == ("groups.group.v1", 3, 17)
    copied.source.offset = 0
    assert copying.source_of(copied.SerializeToString()) == ("groups.group.v1", 3, 0)
