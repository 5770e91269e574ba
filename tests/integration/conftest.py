"""Every test that uses a shop ends with an audit of the topics and of the provider's statement."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from eventlog.faust.thread_checks import VARIABLE as THREAD_CHECKS

if TYPE_CHECKING:
    from groupbuy_testing.running import RunningStack
    from tests.integration.shop import Shop

# All processes of a stack inherit it: a call on the wrong thread ends the process.
os.environ.setdefault(THREAD_CHECKS, "1")


@pytest.fixture
def shop(groupbuy_stack: RunningStack) -> Iterator[Shop]:
    from ops.audit.run import audit, wait_quiet
    from tests.integration.shop import Shop

    made = Shop(groupbuy_stack)
    yield made
    made.behave()
    asyncio.run(wait_quiet(groupbuy_stack.kafka, deadline_s=100))
    provider = groupbuy_stack.endpoints["provider"]
    report = asyncio.run(audit(groupbuy_stack.kafka, provider, settled=True, acknowledged=made.placed))
    assert report.clean, report.json()
    assert report.books_equal
