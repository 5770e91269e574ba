"""The cancel of a group carries the caller's trace, or one that begins with the group."""

from __future__ import annotations

from uuid import UUID

import pytest

from chassis.rpc.trace_context import TRACE, TraceStarter
from eventlog.records.traceparent import TraceContext, parse, span_id
from services.groups.api.groups import GroupServicer
from services.groups.domain.model import Phase
from tests.scenarios.api_call import call
from tests.scenarios.facts import GROUP
from tests.unit.groups_api.test_groups import REQUEST, cancel_request, decides
from tests.unit.groups_api.world import TIME_MS, Broker, Table, forming

CALLER = TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", False)
OWN = TraceContext(UUID(GROUP).hex, span_id("/groupbuy/groups", f"{GROUP}:cancel:{REQUEST}"), True)


@pytest.mark.parametrize(
    ("caller", "share", "expected"), [(None, 1.0, OWN), (None, 0.0, None), (CALLER, 1.0, CALLER), (CALLER, 0.0, CALLER)]
)
async def test_a_cancel_has_a_trace(caller: TraceContext | None, share: float, expected: TraceContext | None) -> None:
    table, broker = Table(), Broker()
    groups = GroupServicer(table, broker, now_ms=lambda: TIME_MS, trace_starter=TraceStarter(share))
    table.put(forming(1), 1)
    broker.reacts = decides(table, Phase.CANCELLED)
    token = TRACE.set(caller)
    try:
        await groups.CancelGroup(cancel_request(), call())
    finally:
        TRACE.reset(token)
    ((_, _, _, headers),) = broker.records
    assert parse(headers.get("traceparent", b"").decode()) == expected
