"""Rows of the payments' table are counted as they are met. Method: each is played alone, as the table's test does."""

from __future__ import annotations

import pytest

from tests.simulation.histories.aims import AIMS
from tests.simulation.histories.coverage import Coverage
from tests.simulation.histories.plan import plan
from tests.simulation.histories.play import play, prepared
from tests.simulation.payment_rows import ROWS, counted_rows, state_of
from tests.unit.payments import stories as s
from tests.unit.payments.test_table import REACHED, told


@pytest.mark.parametrize("state", REACHED)
def test_a_state_is_known_by_what_the_purse_holds(state: str) -> None:
    assert state_of(s.given(*REACHED[state][0]).purse.orders.get("o1")) == state


@pytest.mark.parametrize("row", ROWS, ids=" ".join)
def test_a_row_is_counted_where_it_is_met_and_no_other(row: tuple[str, str]) -> None:
    state, name = row
    story = s.given(*REACHED[state][0])
    counted: list[tuple[str, str]] = []
    with counted_rows(counted.append):
        story.when(told(state, name), after_ms=400_000 if name == "Tick" else 10)
    assert counted == [row]


def test_an_input_that_leads_elsewhere_counts_for_no_row() -> None:
    story = s.given(s.reserved(), s.authorised(), s.settle())
    counted: list[tuple[str, str]] = []
    with counted_rows(counted.append):
        # More than was asked for: the rest goes back, which the row of a plain capture doesn't say.
        story.when(s.captured(amount=70))
    assert story.events
    assert counted == []


def test_rows_that_chance_hardly_meets_are_aimed_at() -> None:
    assert {("RETURNING", "Declined"), ("CAPTURING", "ReleaseRequested"), ("LAPSED", "Captured")} <= set(AIMS)
    coverage = Coverage()
    with prepared(coverage):
        for seed in range(4):
            assert play(plan(seed), coverage).violation is None
    assert coverage.counts["fault", "aimed at a row"]
