"""One customer orders in many groups at once, where the campaign allows one piece: one order gets a seat."""

from __future__ import annotations

import pytest

from tests.simulation.one_customer import play


@pytest.mark.parametrize("seed", range(6))
def test_one_order_gets_a_seat_and_the_others_no_hold(seed: int) -> None:
    found = play(seed, groups=20)
    assert (found["seats"], found["limit"]) == (1, 19)
