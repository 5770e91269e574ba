"""The amounts of each hold add up after any calls in any order. Method: random calls on few holds with few keys, so
that they collide; then the sum of the answers is compared with the statement, before and after reopening the file."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from groupbuy.simprovider.v1 import simprovider_pb2 as pb
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.psp.accounts.account_book import Request
from simulators.psp.accounts.holds import hold_id
from tests.unit.psp.account_books import Books, adds_up, authorise, capture, refund, void

ORDERS = 3
orders = st.integers(0, ORDERS - 1)
attempts = st.integers(1, 3)
minor = st.integers(1, 130)
methods = st.sampled_from(["card_ok", "card_ok", "card_declined", "card_decline_capture", "card_action"])


def key(order: int, operation: str, attempt: int) -> str:
    return f"{order}:{operation}:{attempt}"


def of(order: int) -> str:
    return hold_id(key(order, "authorise", 1))


calls: st.SearchStrategy[Request] = st.one_of(
    st.builds(
        lambda order, method, sale: authorise(key(order, "authorise", 1), method, sale=sale),
        orders,
        methods,
        st.booleans(),
    ),
    st.builds(lambda o, a, m: capture(m, key(o, "capture", a), of(o)), orders, attempts, minor),
    st.builds(lambda o, a: void(key(o, "void", a), of(o)), orders, attempts),
    st.builds(lambda o, a, m: refund(m, key(o, "refund", a), of(o)), orders, attempts, minor),
    st.builds(lambda o: pb.ConfirmRequest(key=key(o, "authorise", 1)), orders),
)
steps = st.lists(st.tuples(st.lists(calls, min_size=1, max_size=4), st.sampled_from([0, 0, 1, 400])), max_size=25)


@settings(max_examples=60, deadline=None)
@given(steps)
def test_the_amounts_of_each_hold_add_up(story: Sequence[tuple[Sequence[Request], int]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        books = Books(Path(directory) / "books.sqlite")
        answered: dict[str, tuple[Request, pb.CallResult]] = {}
        for batch, pause_ms in story:
            books.clock.now_ms += pause_ms
            for request, answer in zip(batch, books.account_book.apply(batch), strict=True):
                if not isinstance(answer, pb.CallResult):
                    continue
                made = answered[answer.key][0] if isinstance(request, pb.ConfirmRequest) else request
                answered[answer.key] = (made, answer)
            assert all(adds_up(entry) for entry in books.statement())

        moved: Counter[tuple[str, int]] = Counter()
        for _, answer in answered.values():
            moved[answer.hold, answer.status] += answer.amount_minor
        statement = books.statement()
        for entry in statement:
            sold = entry.captures and not moved[entry.hold, pb.STATUS_CAPTURED]
            assert entry.authorised_minor == moved[entry.hold, pb.STATUS_AUTHORISED]
            assert entry.captured_minor == (entry.authorised_minor if sold else moved[entry.hold, pb.STATUS_CAPTURED])
            assert entry.refunded_minor == moved[entry.hold, pb.STATUS_REFUNDED]
        assert {entry.hold for entry in statement} == {h for (h, s) in moved if s == pb.STATUS_AUTHORISED}

        books.reopen()
        for request, answer in answered.values():
            assert books.apply(request) == answer
        assert books.statement() == statement
        books.account_book.close()
