"""On the real broker: a group's life is one trace, and the services' logs tell it without secrets."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4
from xml.etree import ElementTree

import pytest
from groupbuy.groups.v1.links_pb2 import CreateShareLinkRequest
from groupbuy.groups.v1.links_pb2_grpc import LinkServiceStub
from groupbuy.links.v1.links_pb2 import SHARE_CHANNEL_FRIEND

from ops.trace.command import spans_of, trace
from ops.trace.follow import TraceFollower
from ops.trace.span import Span
from tests.integration.shop import CALL_S, Shop, until
from tests.unit.ops.trace.otlp_receiver import receiver

if TYPE_CHECKING:
    from groupbuy.orders.v1.orders_pb2 import Order

SERVICES = ("orders", "groups", "payments")


def place_traced(shop: Shop, trace_id: str, campaign: str, group: str = "", **fields: Any) -> Order:
    """Places an order with the caller's trace."""
    metadata = (("traceparent", f"00-{trace_id}-00f067aa0ba902b7-01"),)
    request = shop.request(campaign, group, **fields)
    order = shop.orders.PlaceOrder(request, timeout=CALL_S, metadata=metadata).order
    shop.placed.append((order.group.removeprefix("groups/"), order.name.rsplit("/", 1)[1]))
    return order


def log_of(shop: Shop, name: str) -> str:
    """The log of a process of the stack."""
    return (shop.stack.stack.logs / f"{name}.log").read_text()


async def watched(kafka: str, trace_id: str, count: int) -> list[tuple[str, Any]]:
    """The spans of a trace that a collector gets from watch, by service: `count`, within a deadline."""
    async with receiver() as collector:
        running = asyncio.create_task(TraceFollower(kafka, collector.target).run())
        found: list[tuple[str, Any]] = []
        try:
            async with asyncio.timeout(60):
                while len(found) < count:
                    await asyncio.sleep(0.1)
                    found = [one for one in collector.spans if one[1].trace_id.hex() == trace_id]
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        return found


def test_a_group_from_place_order_to_capture_is_one_trace_over_three_services(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    campaign, trace_id = shop.campaign(capacity=2), uuid4().hex
    leader = place_traced(shop, trace_id, campaign)
    member = place_traced(shop, trace_id, campaign, leader.group)
    shop.wait_all([leader, member], "SETTLED")
    group = leader.group.removeprefix("groups/")
    last: list[Span] = []

    def is_complete() -> bool:
        last[:] = asyncio.run(spans_of(shop.stack.kafka, group))
        return any("settled" in str(span.attributes.get("groupbuy.events", "")).split(",") for span in last)

    # Orders show SETTLED before the group's decision is in its log.
    until(is_complete)
    spans = asyncio.run(spans_of(shop.stack.kafka, group))
    received = asyncio.run(watched(shop.stack.kafka, trace_id, len(spans)))
    assert {span.trace_id for span in spans} == {trace_id}
    assert all(span.sampled for span in spans)
    assert len(received) == len(spans) >= 12
    assert {service for service, _ in received} == {f"groupbuy-{name}" for name in SERVICES}
    ids = {one.span_id for _, one in received}
    roots = [one for _, one in received if one.parent_span_id not in ids]
    assert [(one.name, one.parent_span_id.hex()) for one in roots] == [("PlaceOrder", "00f067aa0ba902b7")] * 2
    calls = Counter(span.name for span in spans if span.name.startswith("provider"))
    assert calls == {"provider authorise": 2, "provider capture": 2}
    assert all(span.attributes["groupbuy.requests"] == 1 for span in spans if span.name.startswith("provider"))

    picture = tmp_path / "trace.svg"
    trace(leader.group, picture, shop.stack.kafka)
    assert "provider capture" in capsys.readouterr().out
    assert len(ElementTree.parse(picture).getroot().findall("{http://www.w3.org/2000/svg}g")) == len(spans)


def test_the_logs_have_one_line_for_each_event_and_no_secret(shop: Shop) -> None:
    campaign, trace_id = shop.campaign(capacity=2), uuid4().hex
    secrets = {name: f"planted{uuid4().hex}" for name in ("ann", "bob", "card", "inviter")}
    fields = {"payment_method": f"card_{secrets['card']}"}
    links = LinkServiceStub(shop.stack.groups)
    link = links.CreateShareLink(
        CreateShareLinkRequest(target=campaign, inviter=secrets["inviter"], channel=SHARE_CHANNEL_FRIEND),
        timeout=CALL_S,
    ).share_token
    leader = place_traced(shop, trace_id, campaign, customer=secrets["ann"], share_link=link, **fields)
    member = place_traced(shop, trace_id, campaign, leader.group, customer=secrets["bob"], **fields)
    shop.wait_all([leader, member], "SETTLED")
    group = leader.group.removeprefix("groups/")

    def lines() -> list[dict[str, Any]]:
        texts = [log_of(shop, name) for name in SERVICES]
        found = [json.loads(line) for text in texts for line in text.splitlines() if group in line]
        return [line for line in found if line.get("group") == group]

    until(lambda: any(line["event"] == "group settled" for line in lines()))
    assert Counter(line["event"] for line in lines()) == {
        "order placed": 2,
        "group opened": 1,
        "seat reserved": 2,
        "money held": 2,
        "member confirmed": 2,
        "group completed": 1,
        "money captured": 2,
        "group settled": 1,
    }
    assert {line["trace"] for line in lines()} == {trace_id}
    for name in (*SERVICES, "provider"):
        text = log_of(shop, name)
        assert text
        assert not [what for what, secret in {**secrets, "link": link}.items() if secret in text], name
