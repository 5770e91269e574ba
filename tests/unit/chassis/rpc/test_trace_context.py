"""Traces of API calls: taken over from the caller, or begun with ids and a sampling that follow from the order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import pytest

from chassis.rpc.trace_context import TRACE, TraceStarter, current_trace_id, trace_of
from eventlog.records.traceparent import TraceContext, parse, span_id

CALLER = TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", True)
ORDER = "9f0d6f24-1a41-5d3c-9a31-0123456789ab"


@contextmanager
def called_with(trace: TraceContext | None) -> Iterator[None]:
    token = TRACE.set(trace)
    try:
        yield
    finally:
        TRACE.reset(token)


def test_a_call_has_the_trace_of_its_only_valid_traceparent() -> None:
    good = ("traceparent", str(CALLER))
    assert trace_of([("user-agent", "x"), good]) == CALLER
    assert trace_of([good, good]) is None
    assert trace_of([good, ("traceparent", "bad")]) is None
    assert trace_of([("traceparent", "bad")]) is None
    assert trace_of([("traceparent", b"bytes")]) is None
    assert trace_of([]) is None
    assert trace_of(None) is None


@pytest.mark.parametrize("sampled", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.01, 1.0])
def test_the_callers_trace_is_taken_over_with_its_flag_whatever_the_share(share: float, sampled: bool) -> None:
    trace = CALLER._replace(sampled=sampled)
    with called_with(trace):
        assert TraceStarter(share).traceparent(ORDER, "/o", "x") == str(trace).encode()
        assert current_trace_id() == trace.trace_id
    assert current_trace_id() == ""


def test_a_trace_that_begins_here_has_the_id_of_the_order_and_the_span_of_the_record() -> None:
    made = TraceStarter(1.0).traceparent(ORDER, "/groupbuy/orders", f"{ORDER}:placed")
    assert made is not None
    trace = parse(made.decode())
    assert trace == TraceContext(UUID(ORDER).hex, span_id("/groupbuy/orders", f"{ORDER}:placed"), True)
    # A repeat of the request gives the same bytes.
    assert TraceStarter(1.0).traceparent(ORDER, "/groupbuy/orders", f"{ORDER}:placed") == made


def test_the_share_is_decided_by_the_end_of_the_order_id() -> None:
    starter = TraceStarter(0.25)

    def sampled(last_bytes: str) -> bool:
        order = f"00000000-0000-5000-80{last_bytes[:2]}-{last_bytes[2:]}"
        return starter.traceparent(order, "/o", "x") is not None

    # W3C: sampled if the last 56 bits are at least (1 - share) * 2^56.
    assert not sampled("bfffffffffffff")
    assert sampled("c0000000000000")
    assert sampled("ffffffffffffff")
    assert not sampled("00000000000000")


def test_no_share_and_the_whole_share() -> None:
    for end in ("00-000000000000", "ff-ffffffffffff"):
        order = f"00000000-0000-5000-80{end}"
        assert TraceStarter(0.0).traceparent(order, "/o", "x") is None
        assert TraceStarter(1.0).traceparent(order, "/o", "x") is not None
