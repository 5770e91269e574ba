"""The short form of `make fuzz`: some hundred requests that nobody would send, to every RPC."""

from __future__ import annotations

import pytest

from tests.fuzz.run import fuzz, names
from tests.fuzz.worlds import WORLDS

REQUESTS = 400


@pytest.mark.parametrize(("service", "name"), [(service, name) for service in WORLDS for name in names(service)])
def test_no_request_makes_a_method_fail(service: str, name: str) -> None:
    result = fuzz(service, name, REQUESTS, seed=2)
    assert result.failures == []
    assert result.codes["OK"] > 0, "all were refused: nothing was tried but the first check"
    assert sum(result.codes.values()) == result.requests == REQUESTS
