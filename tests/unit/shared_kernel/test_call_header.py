"""The header with the timing of a provider's call."""

from __future__ import annotations

import pytest

from shared_kernel.call_header import CallTiming, parse


def test_a_timing_is_read_as_it_was_written() -> None:
    timing = CallTiming(1_764_517_000_123, 85, 3)
    assert str(timing) == "start=1764517000123 ms=85 requests=3"
    assert parse(str(timing)) == timing


@pytest.mark.parametrize(
    "text",
    ["", "start=1", "start=-1 ms=2 requests=3", "start=1 ms=2 requests=3 more", f"start=1 ms={'9' * 11} requests=1"],
)
def test_anything_else_is_no_timing(text: str) -> None:
    assert parse(text) is None
