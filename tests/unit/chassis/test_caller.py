"""The identity that made a call is known also where a replica answers that the call was forwarded to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chassis.routing.peer_calls import CALLER, MAX_CALLER, caller_of
from chassis.rpc.caller import IDENTITY
from tests.unit.payments_api.operators import context


@pytest.fixture
def identity() -> Iterator[str]:
    token = IDENTITY.set("operator")
    yield "operator"
    IDENTITY.reset(token)


def test_the_certificate_decides_and_not_the_metadata(identity: str) -> None:
    assert caller_of(context("finance")) == identity


def test_a_forwarded_call_names_its_caller() -> None:
    assert caller_of(context("finance")) == "finance"


def test_a_name_is_cut() -> None:
    assert caller_of(context("x" * 1_000)) == "x" * MAX_CALLER
    assert CALLER in dict(context("x").invocation_metadata())
