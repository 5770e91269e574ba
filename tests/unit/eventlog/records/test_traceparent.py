"""Trace context of records: which traceparents are valid, and how a record passes its trace on."""

from __future__ import annotations

from hashlib import sha256

import pytest

from eventlog.records.traceparent import TraceContext, parse, passed_on, span_id

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"


@pytest.mark.parametrize(
    ("text", "sampled"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-03", True),
        (f"00-{TRACE}-{SPAN}-02", False),
        (f"01-{TRACE}-{SPAN}-01", True),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-brings", True),
    ],
)
def test_a_valid_traceparent_keeps_its_ids_and_its_sampled_flag(text: str, sampled: bool) -> None:
    found = parse(text)
    assert found == TraceContext(TRACE, SPAN, sampled)
    assert str(found) == f"00-{TRACE}-{SPAN}-{'01' if sampled else '00'}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01 ",
        f"01-{TRACE}-{SPAN}-01.more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00_{TRACE}_{SPAN}_01",
        f"00-{TRACE[:-1]}é-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-0g",
    ],
)
def test_an_invalid_traceparent_is_none(text: str) -> None:
    assert parse(text) is None


def test_the_id_of_a_span_is_derived_from_source_and_id_of_its_record() -> None:
    assert span_id("/groups", "g:1") == sha256(b"/groups g:1").hexdigest()[:16]
    # Two services number their decisions on one group alike.
    assert span_id("/groups", "g:1") != span_id("/payments", "g:1")


def test_a_sampled_trace_is_passed_on_with_the_records_own_span() -> None:
    headers = [("ce_id", b"x"), ("traceparent", f"00-{TRACE}-{SPAN}-01".encode())]
    own = span_id("/groups", "g:1")
    assert passed_on(headers, "/groups", "g:1") == ("traceparent", f"00-{TRACE}-{own}-01".encode())


@pytest.mark.parametrize("value", [f"00-{TRACE}-{SPAN}-00", "not a traceparent", ""])
def test_other_values_are_passed_on_as_they_are(value: str) -> None:
    assert passed_on([("traceparent", value.encode())], "/groups", "g:1") == ("traceparent", value.encode())


def test_a_record_without_a_trace_passes_none_on() -> None:
    assert passed_on([("ce_id", b"x")], "/groups", "g:1") is None
