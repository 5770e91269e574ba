"""Goal: of one purse, no money is taken, kept or given back that may not be, after any input. Method: hypothesis plays
the group, a provider and the clock, rule by rule; answers are lost, late and out of order, and old inputs come again.

What must be true is counted from the events alone, and compared with the provider's books at the end.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from groupbuy.payments.v1.decisions_pb2 import ProviderCall
from groupbuy.payments.v1.inbox_pb2 import PaymentInput
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.payments.domain.events import calls_of
from services.payments.domain.model import Payment
from tests.unit.payments.model_provider import ModelProvider
from tests.unit.payments.stories import Story, name_of, refund, release, reserved, settle, tick

PRICE = 100
METHODS = {"card": "card_ok", "wallet": "wallet_ok"}
ORDERS = st.sampled_from(tuple(METHODS))
#: Which of those there are.
WHICH = st.integers(0, 999)
#: One bit for each thing that may go wrong in a call; mostly nothing does.
LUCK = st.sampled_from((*(0,) * 8, 1, 2, 3, 4, 6, 8, 16))
#: Inputs until everything must have come to rest once the faults have ended.
REST = 300
#: What may come of an input that comes again.
_AGAIN = {"CallDeferred"}
_ENDS = {"HoldLapsed", "Voided", "PaymentReleased"}


class Count:
    """The money of each hold, and what was said of each order, by the events alone. Amounts in minor units."""

    def __init__(self) -> None:
        self.held: Counter[str] = Counter()
        self.taken: Counter[str] = Counter()
        self.back: Counter[str] = Counter()
        #: Money that nobody asked for, until it is known to be held or taken.
        self.suspense: Counter[str] = Counter()
        #: Events of each order and of each commanded refund.
        self.said: Counter[tuple[str, str]] = Counter()
        self.charged: Counter[str] = Counter()
        self.given_back: Counter[str] = Counter()
        #: Commanded refunds under way, by order and id.
        self.commanded: dict[str, Counter[str]] = {order: Counter() for order in METHODS}
        self.holds: dict[str, set[str]] = {order: set() for order in METHODS}
        self.wished: dict[str, str] = {}
        #: What an order is to be charged.
        self.price: dict[str, int] = {}
        #: The hold that the group was told of.
        self.member: dict[str, str] = {}

    def hear(self, event: Any) -> None:
        """Counts one event."""
        kind = str(event.WhichOneof("body"))
        body = getattr(event, kind)
        order = body.call.order if hasattr(body, "call") else getattr(body, "order", "")
        over = self.said[order, "payment_released"]
        match kind:
            case "hold_authorised":
                assert not over, "held after its release"
                (self.taken if order == "wallet" else self.held)[body.hold] += body.amount_minor
                self.holds[order].add(body.hold)
                self.member.setdefault(order, body.hold)
            case "capture_requested":
                assert self.wished[order] == "charge", "to be captured though let go"
                assert body.call.amount_minor <= self.held[body.call.hold]
            case "captured":
                self._captured(order, body)
            case "voided" | "hold_lapsed":
                self.held[body.hold] -= body.amount_minor
            case "suspense_recorded":
                self.suspense[body.hold] += body.amount_minor
                self.holds[order].add(body.hold)
            case "void_requested":
                self.held[body.call.hold] += self.suspense.pop(body.call.hold, 0)
            case "refund_requested":
                self.taken[body.call.hold] += self.suspense.pop(body.call.hold, 0)
                if body.call.refund:
                    self.said[body.call.refund, kind] += 1
                    self.commanded[order][body.call.refund] = body.call.amount_minor
            case "refunded":
                self.back[body.hold] += body.amount_minor
                self.given_back[order] += body.amount_minor if body.refund else 0
                self.commanded[order].pop(body.refund, None)
                assert not (body.refund and self.said[body.refund, kind]), "a command pays twice"
                self.said[body.refund, kind] += 1
            case "refund_declined":
                self.commanded[order].pop(body.refund, None)
                self.said[body.refund, kind] += 1
            case "payment_released":
                assert not any(self.held[hold] for hold in self.holds[order]), "said to be back while it is held"
            case "faulted":
                raise AssertionError(body.error)
        self.said[order, kind] += 1

    def _captured(self, order: str, body: Any) -> None:
        assert self.wished[order] == "charge", "captured though let go"
        assert body.amount_minor == self.price[order]
        if order == "card":
            assert body.amount_minor + body.released_minor == self.held[body.hold]
            self.held[body.hold] = 0
            self.taken[body.hold] += body.amount_minor
        self.charged[order] += body.amount_minor


class PurseMachine(RuleBasedStateMachine):
    """One purse with two orders, and everybody who speaks to it."""

    @initialize()
    def it_begins(self) -> None:
        self.story = Story()
        self.count = Count()
        self.luck = 0
        self.provider = ModelProvider(self._unlucky)
        self.calls: list[ProviderCall] = []
        self.answers: list[PaymentInput] = []
        self.past: list[PaymentInput] = []
        for order, method in METHODS.items():
            self.say(reserved(order, PRICE, method))

    def _unlucky(self, per_cent: int) -> bool:
        bad, self.luck = bool(self.luck & 1), self.luck >> 1
        return bad

    def say(self, told: PaymentInput, after_ms: int = 1) -> None:
        self.past.append(told)
        self._hear(told, after_ms)

    def _hear(self, told: PaymentInput, after_ms: int) -> None:
        self.story.when(told, after_ms)
        for event in self.story.events:
            self.count.hear(event)
        if self.story.last is not None:
            self.calls += calls_of(self.story.last)

    # The group ----------------------------------------------------------------------------------------------------

    @rule(order=ORDERS)
    def a_seat_is_reserved(self, order: str) -> None:
        self.say(reserved(order, PRICE, METHODS[order]))

    def _members(self) -> list[str]:
        return [order for order in self.count.member if order not in self.count.wished]

    @rule(which=WHICH, amount=st.sampled_from((60, PRICE)))
    @precondition(lambda self: self._members())
    def the_group_charges(self, which: int, amount: int) -> None:
        members = self._members()
        order = members[which % len(members)]
        self.count.wished[order], self.count.price[order] = "charge", amount
        self.say(settle(amount, order, self.count.member[order]))

    @rule(order=ORDERS, really=st.sampled_from((*(False,) * 9, True)))
    def the_group_lets_go(self, order: str, really: bool) -> None:
        if really and self.count.wished.setdefault(order, "let go") == "let go":
            self.say(release(order))

    @rule(order=ORDERS, name=st.sampled_from(("r1", "r2", "r3", "r4")), amount=st.sampled_from((0, 20, 70)))
    @precondition(lambda self: +self.count.charged)
    def a_refund_is_commanded(self, order: str, name: str, amount: int) -> None:
        refund_id = f"{name} of {order}"
        answered = self.count.said[refund_id, "refund_requested"] + self.count.said[refund_id, "refund_declined"]
        left = self.count.charged[order] - self.count.given_back[order] - sum(self.count.commanded[order].values())
        self.say(refund(refund_id, amount, order))
        names = [name_of(event) for event in self.story.events]
        good = self.count.wished.get(order) == "charge" and 0 < (amount or left) <= left
        assert names == ([] if answered else ["RefundRequested"] if good else ["RefundDeclined"])

    # The provider -------------------------------------------------------------------------------------------------

    @rule(which=WHICH, luck=LUCK, twice=st.booleans())
    @precondition(lambda self: self.calls)
    def a_call_is_made(self, which: int, luck: int, twice: bool) -> None:
        self.luck = luck
        call = self.calls.pop(which % len(self.calls))
        self.answers.append(self.provider.perform(call))
        if twice and luck:
            # The process died before it could note the answer.
            self.calls.append(call)

    @rule(luck=LUCK)
    @precondition(lambda self: self.calls)
    def all_calls_are_made_and_answered(self, luck: int) -> None:
        for _ in range(len(self.calls)):
            self.a_call_is_made(0, luck, twice=False)
            self.an_answer_arrives(len(self.answers) - 1)

    @rule(which=WHICH)
    @precondition(lambda self: self.answers)
    def an_answer_arrives(self, which: int) -> None:
        self.say(self.answers.pop(which % len(self.answers)))

    @rule(which=WHICH)
    @precondition(lambda self: self.provider.news)
    def news_comes_late(self, which: int) -> None:
        self.say(self.provider.news.pop(which % len(self.provider.news)))

    @rule(which=WHICH, again=st.booleans())
    @precondition(lambda self: self.provider.accounts)
    def a_hold_lapses_or_is_made_again(self, which: int, again: bool) -> None:
        self.luck = 0
        references = list(self.provider.accounts)
        strange = self.provider.hold_again if again and which % 3 == 0 else self.provider.lapse
        told = strange(references[which % len(references)])
        self.answers += [told] if told is not None else []

    # Time, and what comes again -------------------------------------------------------------------------------------

    @rule(after_ms=st.sampled_from((1, 1_000, 60_000)))
    def time_passes(self, after_ms: int) -> None:
        self.say(tick(), after_ms)

    @rule(which=WHICH)
    @precondition(lambda self: self.past)
    def an_old_input_comes_again(self, which: int) -> None:
        at = which % len(self.past)
        told = self.past[at]
        self._hear(told, after_ms=0)
        # At most it is believed once more that an answer is still to come. The end of a hold that was told before its
        # beginning is the one thing that means more when it comes again.
        latest = at == len(self.past) - 1
        names = {name_of(event) for event in self.story.events}
        assert names <= (_AGAIN if latest or not told.HasField("outcome") else _AGAIN | _ENDS)

    # What must be true ----------------------------------------------------------------------------------------------

    @invariant()
    def no_money_comes_from_nowhere(self) -> None:
        count = self.count
        assert not +count.suspense
        assert all(amount >= 0 for amount in count.held.values()), "more let go than was held"
        assert all(count.back[hold] <= count.taken[hold] for hold in count.back), "more back than was taken"
        for order in METHODS:
            assert count.given_back[order] <= count.charged[order] <= PRICE

    @invariant()
    def an_order_has_one_last_word(self) -> None:
        for order in METHODS:
            said = [self.count.said[order, kind] for kind in ("captured", "capture_declined", "payment_released")]
            assert sum(said) <= 1
            assert not said[2] or self.count.wished[order] == "let go"

    @invariant()
    def the_purse_counts_as_we_do(self) -> None:
        for order, record in self.story.payments.orders.items():
            assert (record.captured, record.refunded) == (self.count.charged[order], self.count.given_back[order])
            if isinstance(record, Payment):
                assert {name: hold.held for name, hold in record.holds.items()} == {
                    name: self.count.held[name] for name in record.holds
                }

    def teardown(self) -> None:
        """The faults end, and all that waits is done: nothing is held, and the provider's books are ours."""
        if not hasattr(self, "story"):
            return
        self.provider.well = True
        while self._members():
            self.the_group_charges(0, 60)
        for order in METHODS:
            self.the_group_lets_go(order, really=True)
        self._rest()
        for amount in (20, 70, 0):
            for order in METHODS:
                self.a_refund_is_commanded(order, f"last {amount}", amount)
        self._rest()
        self._check_books()

    def _rest(self) -> None:
        for _ in range(REST):
            if not self._goes_on():
                return
        raise AssertionError("it does not come to rest")

    def _check_books(self) -> None:
        assert not any(isinstance(one, Payment) for one in self.story.payments.orders.values())
        for order, wish in self.count.wished.items():
            last = ("captured", "capture_declined") if wish == "charge" else ("payment_released",)
            assert sum(self.count.said[order, kind] for kind in last) == 1, order
        for hold, account in self.provider.accounts.items():
            here = (self.count.held[hold], self.count.taken[hold], self.count.back[hold])
            assert here == (account.held, account.taken, account.refunded), hold
            assert account.held == 0
        for order, record in self.story.payments.orders.items():
            kept = sum(one.taken - one.refunded for one in self.provider.accounts.values() if one.order == order)
            assert kept == self.count.charged[order] - self.count.given_back[order] + record.owed, order
            assert self.provider.refused_refunds or not record.owed

    def _goes_on(self) -> bool:
        due_ms = self.story.domain.due(self.story.payments)
        if self.calls:
            self.a_call_is_made(0, 0, twice=False)
        elif self.answers:
            self.an_answer_arrives(0)
        elif self.provider.news:
            self.news_comes_late(0)
        elif due_ms is not None:
            self.say(tick(), max(due_ms - self.story.at_ms, 1))
        else:
            return False
        return True


TestPurse = PurseMachine.TestCase
TestPurse.settings = settings(max_examples=80, stateful_step_count=40, deadline=None, derandomize=True)
