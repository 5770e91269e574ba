"""The steps from a call to an outcome when answers go missing. Method: a provider of a few lines that answers by a
script, so that each step can be seen; nothing is connected."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from groupbuy.payments.v1 import decisions_pb2 as d
from groupbuy.payments.v1 import inbox_pb2 as i
from groupbuy.payments.v1.inbox_pb2 import ProviderOutcome

from services.payments.providers.port import KeyTaken, NotPossibleNow, ProviderError, ResultUnknown, outcome_of
from services.payments.providers.resolve import Limits, resolve
from tests.contract.calls import asks
from tests.unit.providers.virtual import run

CALL = asks(d.OPERATION_VOID, "card_ok", hold="h")
LIMITS = Limits(tries=3, try_s=1, budget_s=5, wait_s=0.001)
UNKNOWN = ResultUnknown("no answer")


def voided(origin: i.OutcomeOrigin.ValueType) -> ProviderOutcome:
    outcome = outcome_of(CALL, origin)
    outcome.voided.hold = "h"
    return outcome


SENT = voided(i.OUTCOME_ORIGIN_CALL)
FOUND = voided(i.OUTCOME_ORIGIN_LOOKUP)


@pytest.mark.parametrize(
    ("sends", "look_ups", "result"),
    [
        ([SENT], [], SENT),
        ([UNKNOWN], [FOUND], FOUND),
        # Nothing found is no proof of absence: the same call goes out again.
        ([UNKNOWN, SENT], [None], SENT),
        ([UNKNOWN, UNKNOWN, SENT], [None, UNKNOWN], SENT),
        ([UNKNOWN, UNKNOWN], [None, FOUND], FOUND),
        ([UNKNOWN] * 3, [None] * 3, "no answer"),
        ([UNKNOWN] * 3, [UNKNOWN] * 3, "no answer"),
        # What a moment would not mend is left to the decider at once.
        ([NotPossibleNow("locked out")], [], "locked out"),
        ([UNKNOWN], [NotPossibleNow("locked out")], "locked out"),
        ([KeyTaken("other payload")], [FOUND], FOUND),
    ],
)
async def test_a_call_is_sent_looked_up_and_sent_again_until_its_result_is_known(
    sends: Sequence[ProviderOutcome | ProviderError],
    look_ups: Sequence[ProviderOutcome | ProviderError | None],
    result: ProviderOutcome | str,
) -> None:
    to_send, to_find = iter(sends), iter(look_ups)

    async def send(timeout_s: float) -> ProviderOutcome:
        return said(next(to_send))

    async def look_up(timeout_s: float) -> ProviderOutcome | None:
        answer = next(to_find)
        return answer if answer is None else said(answer)

    outcome = await resolve(CALL, send, look_up, LIMITS)
    assert (outcome if isinstance(result, ProviderOutcome) else outcome.retry_later.error) == result
    assert list(to_send) == list(to_find) == []


def said(answer: ProviderOutcome | ProviderError) -> ProviderOutcome:
    if isinstance(answer, ProviderError):
        raise answer
    return answer


@pytest.mark.parametrize(("first_s", "sends"), [(0.0, 3), (6.0, 1)])
def test_the_first_try_counts_against_the_budget(first_s: float, sends: int) -> None:
    sent: list[float] = []

    async def send(timeout_s: float) -> ProviderOutcome:
        sent.append(timeout_s)
        await asyncio.sleep(first_s)
        raise UNKNOWN

    async def look_up(timeout_s: float) -> ProviderOutcome | None:
        return None

    outcome = run(resolve(CALL, send, look_up, LIMITS))
    assert (len(sent), outcome.retry_later.error) == (sends, "no answer")
