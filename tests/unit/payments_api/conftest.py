"""A charged order, and the inbox of its payments."""

from __future__ import annotations

import pytest

from tests.unit.payments_api.service import Decider, Inbox


@pytest.fixture
def decider() -> Decider:
    made = Decider()
    made.charge(amount=100)
    return made


@pytest.fixture
def inbox(decider: Decider) -> Inbox:
    return Inbox(decider)
