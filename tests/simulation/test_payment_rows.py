"""Rows of the payments' table are counted as they are reached. Method: each is played alone, as in the table's test."""

from __future__ import annotations

import pytest

from services.payments.domain.state.status import Status
from tests.scenarios import payments as s
from tests.simulation.histories.aims import AIMS
from tests.simulation.histories.coverage import Coverage
from tests.simulation.histories.plan import plan
from tests.simulation.histories.play import play, prepared
from tests.simulation.payment_rows import ROWS, counted_rows, row_status
from tests.unit.payments.test_table import REACHED, input_in


@pytest.mark.parametrize("status", REACHED)
def test_the_row_of_a_payment_is_that_of_its_status(status: Status) -> None:
    assert row_status(s.current(*REACHED[status][0]).state.orders.get("o1")) == status


@pytest.mark.parametrize("row", ROWS, ids=" ".join)
def test_a_row_is_counted_where_it_is_reached_and_no_other(row: tuple[Status, str]) -> None:
    status, name = row
    scenario = s.current(*REACHED[status][0])
    counted: list[tuple[str, str]] = []
    with counted_rows(counted.append):
        scenario.when(input_in(status, name), after_ms=400_000 if name == "Tick" else 10)
    assert counted == [row]


def test_an_input_that_leads_elsewhere_counts_for_no_row() -> None:
    scenario = s.current(s.reserved(), s.authorised(), s.settle())
    counted: list[tuple[str, str]] = []
    with counted_rows(counted.append):
        # More than was requested: the rest is returned, which is not in the row of a plain capture.
        scenario.when(s.captured(amount=70))
    assert scenario.events
    assert counted == []


def test_rows_that_chance_rarely_reaches_are_aimed_at() -> None:
    assert {("RETURNING", "Declined"), ("CAPTURING", "ReleaseRequested"), ("LAPSED", "Captured")} <= set(AIMS)
    coverage = Coverage()
    with prepared(coverage):
        for seed in range(4):
            assert play(plan(seed), coverage).violation is None
    assert coverage.counts["fault", "aimed at a row"]
