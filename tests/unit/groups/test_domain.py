"""The domain's interface to the kernel: inputs that raise, faults of the rules, encoding and size of states."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from groupbuy.groups.v1.decisions_pb2 import Faulted, GroupDecision, GroupEvent, GroupOpened, SeatReleased, Terms
from groupbuy.groups.v1.inbox_pb2 import GroupInput
from groupbuy.orders.v1.facts_pb2 import OrderFact
from groupbuy.payments.v1.decisions_pb2 import CallDeferred, PaymentDecision, PaymentEvent
from hypothesis import given as given_values
from hypothesis import strategies as st

from eventlog.core.aggregate import Aggregate, decide
from eventlog.core.errors import InvariantViolation
from services.groups.domain import transitions
from services.groups.domain.command import UnknownInput
from services.groups.domain.domain import GroupDomain
from services.groups.domain.evolve import EVOLVE, UnknownEvent
from services.groups.domain.model import OrderStatus, Phase, State
from services.groups.domain.terms import UnknownRules
from services.groups.domain.transitions import Row
from services.groups.domain.version_2 import transitions as version_2
from services.groups.processors import codec
from tests.scenarios.facts import GROUP
from tests.scenarios.groups import (
    START_MS,
    WINDOW,
    Group,
    authorised,
    campaign,
    cancels,
    captured,
    declined,
    forming,
    given,
    joins,
    opens,
    payments_decided,
    rejected,
    released,
    tick,
)

DOMAIN = GroupDomain()
#: A length-delimited field number 99, which no message of ours has.
UNKNOWN_FIELD = b"\x9a\x06\x00"


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (b"\xff", DecodeError),
        (b"", UnknownInput),
        (UNKNOWN_FIELD, UnknownInput),
        (GroupInput(order_fact=b"\xff").SerializeToString(), DecodeError),
        (GroupInput(order_fact=b"").SerializeToString(), UnknownInput),
        (GroupInput(order_fact=OrderFact(order="a").SerializeToString()).SerializeToString(), UnknownInput),
        (GroupInput(payment_decision=b"\xff").SerializeToString(), DecodeError),
        (payments_decided(PaymentEvent()), UnknownInput),
        (opens("a", campaign(rules_version=99)), UnknownRules),
    ],
)
def test_an_undecodable_or_unknown_input_raises(value: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        DOMAIN.decode_input(value)
    with pytest.raises(InvariantViolation):
        decide(DOMAIN, Aggregate(GROUP, State()), value, 0, START_MS)


@pytest.mark.parametrize(
    ("event", "error"),
    [(GroupEvent(), UnknownEvent), (GroupEvent(opened=GroupOpened(terms=Terms(rules_version=99))), UnknownRules)],
)
def test_a_decision_with_an_unknown_event_raises(event: GroupEvent, error: type[Exception]) -> None:
    value = GroupDecision(group=GROUP, version=1, events=[event]).SerializeToString()
    with pytest.raises(error):
        DOMAIN.decode_decision(value)
    with pytest.raises(error):
        DOMAIN.evolve(State(), event, START_MS)


def test_an_undecodable_decision_raises() -> None:
    with pytest.raises(DecodeError):
        DOMAIN.decode_decision(b"\xff")


def test_every_event_of_the_contract_can_be_applied() -> None:
    assert set(EVOLVE) == {field.name for field in GroupEvent.DESCRIPTOR.oneofs_by_name["body"].fields}


def test_payment_events_for_other_services_change_nothing() -> None:
    given(opens("a")).when(payments_decided(PaymentEvent(call_deferred=CallDeferred(order="a")))).then_nothing()
    empty = GroupInput(payment_decision=PaymentDecision(group=GROUP).SerializeToString()).SerializeToString()
    given(opens("a")).when(empty).then_nothing()


def test_a_tick_is_an_input_without_items() -> None:
    assert DOMAIN.decode_input(DOMAIN.tick(7)).items == []
    assert GroupInput.FromString(DOMAIN.tick(7)).tick.due_ms == 7


def test_decisions_carry_version_cause_time_and_the_digest_of_the_one_before() -> None:
    value = DOMAIN.encode_decision(
        GROUP, 3, 17, START_MS, b"digest", [GroupEvent(seat_released=SeatReleased(order="a"))]
    )
    decision = DOMAIN.decode_decision(value)
    assert (decision.group, decision.version, decision.cause, decision.time_ms) == (GROUP, 3, 17, START_MS)
    assert decision.previous_sha256 == b"digest"
    assert [event.seat_released.order for event in decision.events] == ["a"]


@given_values(
    lengths=st.lists(st.sampled_from((0, 1, 120, 121, 122, 123, 4_080, 4_095, 4_096, 20_000)), max_size=5),
    version=st.integers(0, 2**40),
    cause=st.integers(0, 2**62),
    digest=st.sampled_from((b"", b"digest")),
)
def test_an_encoded_decision_equals_protobufs_encoding(
    lengths: list[int], version: int, cause: int, digest: bytes
) -> None:
    events = [GroupEvent(faulted=Faulted(error="x" * length)) for length in lengths]
    whole = GroupDecision(
        group=GROUP, version=version, cause=cause, time_ms=START_MS, previous_sha256=digest, events=events
    ).SerializeToString()
    assert DOMAIN.encode_decision(GROUP, version, cause, START_MS, digest, events) == whole


def test_events_of_any_length_are_encoded_as_protobuf_does() -> None:
    for length in range(4_200):
        event = GroupEvent(faulted=Faulted(error="x" * length))
        assert DOMAIN.encode_decision("", 0, 0, 0, b"", [event]) == GroupDecision(events=[event]).SerializeToString()


def test_two_owners_write_the_same_bytes() -> None:
    inputs = (
        opens("a"),
        joins("b"),
        authorised("b"),
        joins("c"),
        authorised("a"),
        authorised("c"),
        joins("d"),
        authorised("d"),
    )
    assert given(*inputs).log == given(*inputs).log


# Faults -------------------------------------------------------------------------------------------------------------


def break_row(monkeypatch: pytest.MonkeyPatch, rows: list[dict[str, Row]], state: int, on: str) -> None:
    def act(state: State, item: Any, at_ms: int) -> Iterator[GroupEvent]:
        raise ZeroDivisionError

    sound = rows[state][on]
    broken = Row(sound.when, sound.on, act, sound.events, sound.to, sound.note)
    monkeypatch.setitem(rows[state], on, broken)


def test_a_fault_cancels_a_forming_group_releases_all_and_answers_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    group = given(opens("a", campaign(capacity=3, waitlist=True)), joins("b"), joins("c"), joins("w"), authorised("a"))
    break_row(monkeypatch, transitions.ON_GROUP, Phase.FORMING, "joins")
    group.when(joins("d")).then(
        "seat_refused d GROUP_CANCELLED",
        "faulted ZeroDivisionError",
        "cancelled fault: ZeroDivisionError",
        "seat_released a FAULTED",
        "release_requested a FAULTED",
        "seat_released b FAULTED",
        "release_requested b FAULTED",
        "seat_released c FAULTED",
        "release_requested c FAULTED",
        "seat_released w FAULTED",
    )
    group.when(joins("d")).then_nothing().when(joins("e")).then("seat_refused e GROUP_CANCELLED")


def test_a_fault_in_a_closed_group_only_raises_the_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    group = forming("a", "b").when(tick(), at=WINDOW)
    break_row(monkeypatch, transitions.ON_GROUP, Phase.COMPLETED, "joins")
    group.when(joins("c")).then("seat_refused c UNREADABLE", "faulted ZeroDivisionError")
    group.when(captured("a")).then("member_settled a 800")


def test_a_fault_at_the_opening_opens_no_group_and_answers_the_leader(monkeypatch: pytest.MonkeyPatch) -> None:
    break_row(monkeypatch, transitions.ON_GROUP, Phase.UNOPENED, "opens")
    group = given(opens("a")).then("seat_refused a UNREADABLE", "faulted ZeroDivisionError")
    assert group.state.phase is Phase.UNOPENED


@pytest.mark.parametrize(
    ("status", "on", "value", "answer"),
    [
        (OrderStatus.UNKNOWN, "order_rejected", rejected("a"), "seat_refused a UNREADABLE"),
        (OrderStatus.UNKNOWN, "cancel_requested", cancels("a"), "seat_refused a CANCELLED"),
        (OrderStatus.UNKNOWN, "hold_authorised", authorised("a"), "release_requested a NO_SEAT"),
        (OrderStatus.UNKNOWN, "captured", captured("a"), "release_requested a NO_SEAT"),
        (OrderStatus.ORPHANED, "opens", opens("a"), "seat_refused a UNREADABLE"),
        (OrderStatus.ORPHANED, "joins", joins("a"), "seat_refused a UNREADABLE"),
        (OrderStatus.ORPHANED, "payment_released", released("a"), "member_released a"),
    ],
)
def test_a_fault_in_a_group_that_never_opened_leaves_no_order_pending(
    monkeypatch: pytest.MonkeyPatch, status: OrderStatus, on: str, value: bytes, answer: str
) -> None:
    group = Group()
    if status is OrderStatus.ORPHANED:
        group.when(authorised("a")).then("release_requested a NO_SEAT")
    with monkeypatch.context() as patched:
        break_row(patched, transitions.ON_ORDER, status, on)
        group.when(value).then(answer, "faulted ZeroDivisionError")
    assert group.state.phase is Phase.UNOPENED
    # The sound rules take over: the order is not decided again.
    if on != "payment_released":
        group.when(released("a"))
        assert group.state.unreleased == 0
    group.when(value).then_nothing()


def test_a_fault_of_rules_version_2_at_the_opening_answers_the_leader(monkeypatch: pytest.MonkeyPatch) -> None:
    break_row(monkeypatch, version_2.ON_GROUP, Phase.UNOPENED, "opens")
    offer = campaign(rules_version=2, limit_per_customer=1)
    group = given(opens("a", offer)).then("seat_refused a UNREADABLE", "faulted ZeroDivisionError")
    group.when(opens("a", offer)).then_nothing()


def test_a_fault_on_money_of_a_closed_group_requests_its_return_once(monkeypatch: pytest.MonkeyPatch) -> None:
    group = given(opens("a"), joins("b")).when(declined("b")).when(cancels("a"))
    break_row(monkeypatch, transitions.ON_ORDER, OrderStatus.HOLD_DECLINED, "captured")
    group.when(captured("b"))
    assert "release_requested b NO_SEAT" in group.of("b")
    group.when(captured("b"))
    assert "release_requested b NO_SEAT" not in group.of("b")


def test_a_fault_on_the_capture_of_a_member_keeps_the_member(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its money is not returned: an operator releases or fails the member."""
    group = forming("a", "b").when(tick(), at=WINDOW)
    with monkeypatch.context() as patched:
        break_row(patched, transitions.ON_ORDER, OrderStatus.SETTLING, "captured")
        group.when(captured("a")).then("faulted ZeroDivisionError")
    group.when(captured("a"), captured("b"))
    assert group.state.is_done


def test_a_fault_at_the_deadline_cancels_the_group(monkeypatch: pytest.MonkeyPatch) -> None:
    group = forming("a", "b")
    break_row(monkeypatch, transitions.ON_GROUP, Phase.FORMING, "deadline due")
    group.when(tick(), at=WINDOW)
    assert group.state.phase is Phase.CANCELLED
    assert group.due is None


# State --------------------------------------------------------------------------------------------------------------


def uuid(number: int) -> str:
    return f"0f5fd1f1-2f7a-5b41-9a45-{number:012d}"


def test_encoded_states_are_small() -> None:
    small = given(opens(uuid(1)), joins(uuid(2)), authorised(uuid(1)))
    assert len(codec.encode(small.state)) < 420
    done = forming(*(uuid(number) for number in range(4)))
    done.when(*(captured(uuid(number)) for number in range(4)))
    assert done.state.is_done
    assert len(codec.encode(done.state)) < 360


def test_a_decoded_group_decides_as_before() -> None:
    group = given(opens("a", campaign(capacity=3, waitlist=True)), joins("b"), joins("c"), joins("d"), authorised("b"))
    thawed = Group()
    thawed.decided, thawed.folded = (
        replace(one, state=codec.decode(codec.encode(one.state))) for one in (group.decided, group.folded)
    )
    thawed.inputs = list(group.inputs)
    for one in (group, thawed):
        one.when(authorised("a"), authorised("c"))
    assert thawed.log == group.log[-len(thawed.log) :]
    assert thawed.state == group.state
