"""The steps from a call to a known result. Method: an API whose answers are scripted, so that each step is visible."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from chassis.outside.call_errors import (
    CallError,
    KeyReused,
    NotDone,
    NotPossibleNow,
    ReplayedFailure,
    ResultUnknown,
)
from chassis.outside.resolve import RetryPolicy, resolve
from tests.unit.virtual_time import run

POLICY = RetryPolicy(attempts=3, attempt_s=1, budget_s=5, wait_s=0.001)
UNKNOWN = ResultUnknown("no answer")
SENT, FOUND = "sent", "found"


@pytest.mark.parametrize(
    ("sends", "look_ups", "result"),
    [
        ([SENT], [], SENT),
        ([UNKNOWN], [FOUND], FOUND),
        # A look-up that finds nothing is no proof of absence: the same call is sent again.
        ([UNKNOWN, SENT], [None], SENT),
        ([UNKNOWN, UNKNOWN, SENT], [None, UNKNOWN], SENT),
        ([UNKNOWN, UNKNOWN], [None, FOUND], FOUND),
        ([UNKNOWN] * 3, [None] * 3, ResultUnknown("no answer")),
        ([UNKNOWN] * 3, [UNKNOWN] * 3, ResultUnknown("no answer")),
        # Not retried here: seconds would not help.
        ([NotPossibleNow("locked out")], [], NotPossibleNow("locked out")),
        ([UNKNOWN], [NotPossibleNow("locked out")], NotPossibleNow("locked out")),
        ([KeyReused("other payload")], [FOUND], FOUND),
        # The other side repeats a failure: the same key can't help, and a look-up tells whether there was an effect.
        ([ReplayedFailure("500")], [FOUND], FOUND),
        ([ReplayedFailure("500")], [None], NotDone("500")),
        ([UNKNOWN, ReplayedFailure("500")], [None, None], NotDone("500")),
        ([ReplayedFailure("500")], [NotPossibleNow("the search lags")], NotPossibleNow("the search lags")),
    ],
)
async def test_a_call_is_sent_looked_up_and_sent_again_until_its_result_is_known(
    sends: Sequence[str | CallError], look_ups: Sequence[str | CallError | None], result: str | CallError
) -> None:
    to_send, to_find = iter(sends), iter(look_ups)

    async def send(timeout_s: float) -> str:
        return answer(next(to_send))

    async def look_up(timeout_s: float) -> str | None:
        found = next(to_find)
        return found if found is None else answer(found)

    if isinstance(result, CallError):
        with pytest.raises(type(result), match=str(result)):
            await resolve("key", send, look_up, POLICY)
    else:
        assert await resolve("key", send, look_up, POLICY) == result
    assert list(to_send) == list(to_find) == []


async def test_an_old_call_is_looked_up_before_it_is_sent() -> None:
    steps: list[str] = []

    async def send(timeout_s: float) -> str:
        steps.append("send")
        return SENT

    async def look_up(timeout_s: float) -> str | None:
        steps.append("look up")
        return None

    assert await resolve("key", send, look_up, POLICY, look_first=True) == SENT
    assert steps == ["look up", "send"]


def answer(one: str | CallError) -> str:
    if isinstance(one, CallError):
        raise one
    return one


@pytest.mark.parametrize(("first_s", "sends"), [(0.0, 3), (6.0, 1)])
def test_the_first_attempt_counts_against_the_budget(first_s: float, sends: int) -> None:
    sent: list[float] = []

    async def send(timeout_s: float) -> str:
        sent.append(timeout_s)
        await asyncio.sleep(first_s)
        raise UNKNOWN

    async def look_up(timeout_s: float) -> str | None:
        return None

    with pytest.raises(ResultUnknown, match="no answer"):
        run(resolve("key", send, look_up, POLICY))
    assert len(sent) == sends
