"""Checks of the live pages: how fast, how often, and whether anything is missing after an interruption."""

from __future__ import annotations

import asyncio
import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from groupbuy.orders.v1.orders_pb2 import BatchPlaceOrdersRequest
from groupbuy.orders.v1.orders_pb2_grpc import OrderServiceStub
from playwright.sync_api import Browser, Page, expect

from devstack.product import CONSOLE
from devstack.supervision.waiting import wait_for
from tests.console.browser import DESK, WAIT_MS, page_of
from tests.console.shop import Shop
from tests.console.site import Site

LIVE_MS = 1_000
FRAMES, PAGE_MS, JOINS = 6, 100, 1_000
STREAMS, STREAMS_MB = 2_000, 200
_BATCH = 250


def orders_appear(browser: Browser, site: Site, shop: Shop) -> float:
    """An order that opens a group appears without a reload. Returns the slowest of three, in milliseconds."""
    campaign = shop.campaign("Linen shirt")
    slowest = 0.0
    with page_of(browser, DESK) as page:
        page.goto(f"{site.console}/")
        expect(page.locator("#status")).to_have_text("live")
        for _ in range(3):
            one = shop.open(campaign)
            placed_s = time.perf_counter()
            page.locator(f'[data-key="{one.key}"]').wait_for(state="attached")
            slowest = max(slowest, (time.perf_counter() - placed_s) * 1000)
    assert slowest <= LIVE_MS, f"an order appeared after {slowest:.0f} ms, not within {LIVE_MS} ms"
    return slowest


def tier_turns(browser: Browser, site: Site, shop: Shop) -> None:
    """The step of a tier becomes today's price when it is reached."""
    one = shop.open(shop.campaign("Yixing teapot"))
    with page_of(browser, DESK) as page:
        page.goto(f"{site.console}/")
        card = page.locator(f'[data-key="{one.key}"]')
        expect(card.locator(".next").first).to_contain_text("¥199.00")
        assert card.locator(".now").count() == 0
        shop.join(one)
        expect(card.locator(".now b")).to_have_text("¥199.00")
        shop.join(one, 3)
        expect(card.locator(".now b")).to_have_text("¥179.00")
        expect(card.locator("p.next")).to_contain_text("5 more")


def killed_service(browser: Browser, site: Site, shop: Shop) -> None:
    """A killed service is named, orders placed meanwhile appear, and nothing is missing afterwards."""
    campaign = shop.campaign("Wool socks")
    with page_of(browser, DESK) as page:
        page.goto(f"{site.console}/?campaign={campaign.removeprefix('campaigns/')}")
        expect(page.locator("#status")).to_have_text("live")
        first = shop.open(campaign)
        page.locator(f'[data-key="{first.key}"]').wait_for()
        site.stack.kill("groups", restart=True)
        expect(page.locator("#away")).to_contain_text("groups is away, reconnecting")
        site.stack.wait_serving("groups")
        more = [shop.open(campaign) for _ in range(3)]
        expect(page.locator("#away")).to_be_empty()
        _complete(page, {first.key, *(one.key for one in more)})
        # The console itself: the page says that it reconnects, and catches up.
        site.stack.kill(CONSOLE)
        expect(page.locator("#status")).to_contain_text("reconnecting")
        last = shop.open(campaign)
        expect(page.locator("#status")).to_have_text("live")
        _complete(page, {first.key, last.key, *(one.key for one in more)})
        expect(page.locator("#groups > li")).to_have_count(5)


def _complete(page: Page, keys: set[str]) -> None:
    for key in keys:
        page.locator(f'#groups [data-key="{key}"]').wait_for()


def same_lines(browser: Browser, site: Site, key: str, order: str = "") -> None:
    """The lines of a story equal those of the command line."""
    name = f"groups/{key}/orders/{order}" if order else f"groups/{key}"
    printed = site.ops("show", "order" if order else "group", name, "--anonymous").splitlines()
    with page_of(browser, DESK) as page:
        page.goto(f"{site.console}/{name}")
        shown = page.eval_on_selector_all(
            "#lines > li",
            "all => all.map(li => ['time', 'author', 'text'].map(c => li.querySelector('.' + c).textContent))",
        )
    lines = [f"{time_:<24}  {author:<14}{text}" for time_, author, text in shown]
    assert [line.rstrip() for line in lines] == [line.rstrip() for line in printed[1:]], f"the story of {name} differs"


def money_is_the_audits(browser: Browser, site: Site) -> None:
    """The money on the page is that of the audit."""
    figures = site.audit()
    from ops.amounts import amount

    with page_of(browser, DESK) as page:
        page.goto(f"{site.console}/books")
        for currency, held in figures["held_minor"].items():
            cells = page.locator(f'#flows tr[data-currency="{currency}"] td')
            wanted = (held, *(figures[f"{name}_minor"][currency] for name in ("captured", "released")))
            for index, minor in enumerate(wanted):
                expect(cells.nth(index)).to_have_text(amount(minor, currency))
            expect(cells.nth(4)).to_have_text(amount(figures["refunded_minor"][currency], currency))


def burst(browser: Browser, site: Site, shop: Shop) -> dict[str, Any]:
    """A thousand joins at once make few frames, and the page answers meanwhile."""
    campaign = shop.campaign("Lychees, 5 kg", capacity=1_200)
    one = shop.open(campaign)
    requests = [shop.request(one) for _ in range(JOINS)]
    with page_of(browser, DESK) as page, grpc.insecure_channel(site.stack.endpoints["orders"]) as channel:
        page.goto(f"{site.console}/?campaign={campaign.removeprefix('campaigns/')}")
        expect(page.locator("#status")).to_have_text("live")
        page.locator(f'[data-key="{one.key}"]').wait_for()
        page.evaluate(_OBSERVE)
        stub = OrderServiceStub(channel)
        began_s = time.perf_counter()
        calls = [
            stub.BatchPlaceOrders.future(BatchPlaceOrdersRequest(requests=requests[at : at + _BATCH]), timeout=60)
            for at in range(0, JOINS, _BATCH)
        ]
        slowest = 0.0
        while not all(call.done() for call in calls):
            asked_s = time.perf_counter()
            assert site.get(f"{site.console}/").status == 200
            slowest = max(slowest, (time.perf_counter() - asked_s) * 1000)
            page.wait_for_timeout(20)
        seats_s = time.perf_counter() - began_s
        expect(page.locator(f'[data-key="{one.key}"] .count b')).to_have_text(
            re.compile(r"1,?001"), timeout=WAIT_MS * 4
        )
        stamps: list[float] = page.evaluate("window.frameTimes")
    most = max((sum(at <= other < at + 1000 for other in stamps) for at in stamps), default=0)
    assert most <= FRAMES, f"{most} frames within a second"
    assert slowest <= PAGE_MS, f"the page answered after {slowest:.0f} ms"
    return {
        "frames_in_burst": most,
        "frames_in_all": len(stamps),
        "burst_s": round(seats_s, 2),
        "page_ms": round(slowest),
    }


_OBSERVE = """() => {
  window.frameTimes = []
  new MutationObserver(() => window.frameTimes.push(performance.now()))
    .observe(document.body, {attributes: true, attributeFilter: ['data-frames']})
}"""


def many_streams(site: Site) -> dict[str, float]:
    """So many open streams on one process take little memory."""
    pid = site.stack.pid(CONSOLE)
    assert pid is not None
    host, _, port = site.stack.endpoints[CONSOLE].rpartition(":")
    holding = _hold_open(host, int(port), STREAMS, lambda: site.memory_mb(pid))
    # On a thread of its own: Playwright's event loop runs on this one.
    with ThreadPoolExecutor(1) as pool:
        opened, memory = pool.submit(asyncio.run, holding).result()
    assert opened == STREAMS, f"{opened} of {STREAMS} streams are open"
    assert memory <= STREAMS_MB, f"{memory:.0f} MB with {STREAMS} streams"
    return {"streams": opened, "streams_mb": round(memory)}


async def _hold_open(host: str, port: int, count: int, measure: Any) -> tuple[int, float]:
    writers = []
    opened = 0

    async def one() -> None:
        nonlocal opened
        reader, writer = await asyncio.open_connection(host, port)
        writers.append(writer)
        writer.write(f"GET /events HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        line = await asyncio.wait_for(reader.readline(), 60)
        opened += b" 200 " in line
        await asyncio.wait_for(reader.readuntil(b"data: "), 60)

    try:
        for begin in range(0, count, 100):
            await asyncio.gather(*(one() for _ in range(begin, min(begin + 100, count))))
        return opened, measure()
    finally:
        for writer in writers:
            writer.close()


def console_dies(site: Site, shop: Shop) -> None:
    """The services do not notice that the console is killed."""
    before = {name: site.stack.pid(name) for name in ("orders", "groups", "payments", "provider")}
    pid = site.stack.pid(CONSOLE)
    site.stack.kill(CONSOLE)
    one = shop.open(shop.campaign("Silk scarf"))
    shop.join(one, 3)
    shop.wait_settled(one)
    assert before == {name: site.stack.pid(name) for name in before}
    if not wait_for(lambda: site.stack.pid(CONSOLE) not in {None, pid}, timeout_s=30, every_s=0.1):
        raise AssertionError("the console was not started again")
    site.wait_console()
