"""The listener for operators: its routes, and what a page has around its content."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from aiohttp import web
from aiokafka.errors import KafkaError

from console.live.board import Board
from console.live.checkpoints import Checkpoints
from console.live.services import Services
from console.live.stock import Stocks
from console.pages.books import BooksChannel
from console.pages.channels import Channels, Crowded
from console.pages.health import HealthChannel
from console.pages.live import LiveChannel
from console.pages.story import StoryChannel
from console.repair.actions import Action, BadForm
from console.repair.issues import shown_issue
from console.repair.repairs import Refused, Repairs
from console.settings import ConsoleSettings
from console.web import security
from console.web.assets import Asset
from console.web.authentication import OPERATOR, authenticate, from_own_page
from console.web.channel import Channel
from console.web.connections import form_of
from console.web.passwords import Operators
from console.web.streams import Places, stream
from console.web.templates import render
from ops.errors import OpsError
from ops.log.show import is_id
from ops.trace import svg
from ops.trace.command import spans_of

log = logging.getLogger(__name__)

#: Stories with open readers of the broker, and filters of the live page, at a time.
MAX_STORIES = 48
MAX_FILTERS = 64
#: Seconds between two refreshes of what no record changes: ages, balances, lag.
TICK_S = 2.0
#: Traces that are drawn at a time.
_TRACES = 2
_MAX_FORM = 64 * 1024
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class OperatorPages:
    """The pages for operators."""

    def __init__(
        self,
        settings: ConsoleSettings,
        board: Board,
        services: Services,
        stocks: Stocks,
        places: Places,
        operators: Operators | None,
    ) -> None:
        self._settings = settings
        self._board = board
        self._services = services
        self._places = places
        self._operators = operators
        self._repairs = Repairs(services)
        self._assets = {name: Asset(name) for name in ("console.css", "console.js", "mark.svg")}
        self._lives = Channels[tuple[str, str], LiveChannel](
            MAX_FILTERS, lambda key: LiveChannel(board, services, stocks, *key)
        )
        self._stories = Channels[tuple[str, str | None], StoryChannel](
            MAX_STORIES, lambda key: StoryChannel(settings.kafka, board, *key)
        )
        self._books = BooksChannel(board, services, settings.roots)
        self._health = HealthChannel(board, services, Checkpoints(settings.service_metrics))
        self._tracing = asyncio.Semaphore(_TRACES)
        board.on_change(self._on_change)
        services.on_change(lambda: self._on_change(0))
        stocks.on_change(lambda: self._on_change(0))

    def application(self) -> web.Application:
        """The application of the listener."""
        made = web.Application(
            middlewares=[_answer, authenticate(self._operators)],
            client_max_size=_MAX_FORM,
        )
        made.add_routes(
            [
                web.get("/", self._live),
                web.get("/events", self._live_events),
                web.get("/groups/{key}", self._story),
                web.get("/groups/{key}/events", self._story_events),
                web.get("/groups/{key}/trace", self._trace),
                web.get("/groups/{key}/trace.svg", self._trace_picture),
                web.get("/groups/{key}/orders/{order}", self._story),
                web.get("/groups/{key}/orders/{order}/events", self._story_events),
                web.get("/books", self._book_page),
                web.get("/books/events", self._book_events),
                web.get("/health", self._health_page),
                web.get("/health/events", self._health_events),
                web.get("/repair", self._repair),
                web.get("/repair/{action}", self._repair_form),
                web.post("/repair/{action}", self._repair_do),
                web.get("/find", self._find),
                *(web.get(asset.path, _static(asset)) for asset in self._assets.values()),
            ]
        )
        return made

    async def follow(self) -> None:
        """Refreshes what changes with time, until it is cancelled."""
        while True:
            await asyncio.sleep(TICK_S)
            self._on_change(0)
            self._lives.sweep()
            self._stories.sweep()
            for story in self._stories.all():
                story.touch()
            await asyncio.gather(*(one.prepare() for one in (self._books, self._health) if one.viewers))

    async def close(self) -> None:
        """Closes all channels."""
        await self._lives.close()
        await self._stories.close()

    def _on_change(self, weight: int) -> None:
        for live in self._lives.all():
            live.touch(weight)
        self._books.touch(weight)
        self._health.touch(weight)

    # --- pages -------------------------------------------------------------------------------------------------------

    def _page(
        self, template: str, section: str, channel: Channel | None = None, events: str = "", **values: Any
    ) -> str:
        css, js, icon = (self._assets[name] for name in ("console.css", "console.js", "mark.svg"))
        around: dict[str, Any] = {"title": section, "away": self._services.notice()}
        tag = channel.tag if channel is not None else ""
        return render(
            template,
            css=css,
            js=js,
            icon=icon,
            section=section,
            channel=channel,
            events=events,
            tag=tag,
            **(around | values),
        )

    def _live_channel(self, request: web.Request) -> LiveChannel:
        campaign, room = request.query.get("campaign", "")[:100], request.query.get("room", "")[:8]
        return self._lives.get((campaign, room))

    async def _live(self, request: web.Request) -> web.StreamResponse:
        channel = self._live_channel(request)
        if not channel.viewers:
            channel.update()
        wanted = {name: request.query[name][:100] for name in ("campaign", "room") if name in request.query}
        return _html(self._page("live.html", "Live", channel, f"/events?{urlencode(wanted)}"))

    async def _live_events(self, request: web.Request) -> web.StreamResponse:
        channel = self._live_channel(request)
        if not channel.viewers:
            channel.update()
        return await stream(request, channel, self._places, security.NOTHING)

    def _story_channel(self, request: web.Request) -> StoryChannel:
        key, order = request.match_info["key"], request.match_info.get("order")
        if not is_id(key) or (order is not None and not is_id(order)):
            raise web.HTTPNotFound
        return self._stories.get((key, order))

    async def _story(self, request: web.Request) -> web.StreamResponse:
        channel = self._story_channel(request)
        await channel.prepare()
        if not channel.found:
            return self._message(404, "Not in the log", f"The topics at {self._settings.kafka} have no record of it.")
        events = f"{request.path}/events"
        return _html(self._page("story.html", "", channel, events, title=channel.title))

    async def _story_events(self, request: web.Request) -> web.StreamResponse:
        channel = self._story_channel(request)
        await channel.prepare()
        return await stream(request, channel, self._places, security.NOTHING)

    async def _trace(self, request: web.Request) -> web.StreamResponse:
        if not is_id(key := request.match_info["key"]):
            raise web.HTTPNotFound
        return _html(self._page("trace.html", "", title="Trace", key=key))

    async def _trace_picture(self, request: web.Request) -> web.StreamResponse:
        if not is_id(key := request.match_info["key"]):
            raise web.HTTPNotFound
        async with self._tracing:
            spans = await spans_of(self._settings.kafka, key)
        if not spans:
            raise web.HTTPNotFound
        picture = svg.picture(f"groups/{key}", spans)
        return web.Response(text=picture, content_type="image/svg+xml", headers=security.NOTHING)

    async def _book_page(self, request: web.Request) -> web.StreamResponse:
        await self._books.prepare()
        return _html(self._page("books.html", "Books", self._books, "/books/events"))

    async def _book_events(self, request: web.Request) -> web.StreamResponse:
        return await stream(request, self._books, self._places, security.NOTHING)

    async def _health_page(self, request: web.Request) -> web.StreamResponse:
        await self._health.prepare()
        return _html(self._page("health.html", "Health", self._health, "/health/events"))

    async def _health_events(self, request: web.Request) -> web.StreamResponse:
        return await stream(request, self._health, self._places, security.NOTHING)

    async def _find(self, request: web.Request) -> web.StreamResponse:
        wanted = request.query.get("q", "").strip().lower()[:300]
        match wanted.removesuffix("/payment").split("/"):
            case ["groups", key] | [key] if is_id(key):
                raise web.HTTPSeeOther(f"/groups/{key}")
            case ["groups", key, "orders", order] if is_id(key) and is_id(order):
                raise web.HTTPSeeOther(f"/groups/{key}/orders/{order}")
        starting = [key for key in self._board.cards if len(wanted) >= 4 and key.startswith(wanted)]
        starting += [one.key for one in (*self._board.completed, *self._board.failed) if one.key.startswith(wanted)]
        if len(wanted) >= 4 and len(set(starting)) == 1:
            raise web.HTTPSeeOther(f"/groups/{starting[0]}")
        text = "Names look like groups/5d7c9f3e-… or groups/…/orders/…. The first characters find a group that is open."
        return self._message(404, "Not found", text)

    def _message(self, status: int, title: str, text: str, command: str = "") -> web.Response:
        return _html(self._page("message.html", "", title=title, text=text, command=command), status)

    # --- repair ------------------------------------------------------------------------------------------------------

    def _off(self) -> web.Response | None:
        """The answer without operators; None: there are operators, and the request is from one."""
        if self._operators is not None:
            return None
        text = "Repairs need authentication. Name a file of operators and start the console again:"
        return self._message(403, "Repair is off", text, "GROUPBUY_CONSOLE_OPERATORS_FILE=operators.txt")

    async def _repair(self, request: web.Request) -> web.StreamResponse:
        if (off := self._off()) is not None:
            return off
        issues, error = [], ""
        try:
            issues = [shown_issue(one) for one in (await self._repairs.issues()).issues]
        except Refused as refused:
            error = str(refused)
        order = request.query.get("order", "")[:200]
        found = self._repairs.actions.values()
        names = {"payment": f"{order}/payment" if order else "", "group": "/".join(order.split("/")[:2])}
        return self._repair_page(issues=issues, error=error, order=order, actions=list(found), names=names)

    async def _repair_form(self, request: web.Request) -> web.StreamResponse:
        if (off := self._off()) is not None:
            return off
        action = self._repairs.actions.get(request.match_info["action"])
        if action is None:
            raise web.HTTPNotFound
        given = {name: value[:300] for name, value in request.query.items()}
        return self._form_page(action, given)

    async def _repair_do(self, request: web.Request) -> web.StreamResponse:
        if (off := self._off()) is not None:
            return off
        name, operator = request.match_info["action"], OPERATOR.get()
        action = self._repairs.actions.get(name)
        if action is None:
            raise web.HTTPNotFound
        if not from_own_page(request):
            raise web.HTTPForbidden(text="the form is not from this console\n")
        form = await form_of(request)
        try:
            if "token" in form:
                after = await self._repairs.apply(name, form["token"], operator)
                return self._repair_page(done=action, after=after)
            return self._repair_page(preview=await self._repairs.preview(name, form, operator))
        except (BadForm, Refused) as error:
            return self._form_page(action, form, str(error))

    def _form_page(self, action: Action, given: Mapping[str, str], error: str = "") -> web.Response:
        """The form of an action, with values. An action with results first needs a choice of one."""
        result = given.get("result", "")
        choose = bool(action.results) and result not in {name for name, _ in action.results}
        if not choose:
            action = action.with_result(result)
        form = {"name": "", "reason": "", **{field.name: "" for field in action.fields}, **given}
        status = 422 if error else 200
        return self._repair_page(status, action=action, form=form, error=error, result=result, choose=choose)

    def _repair_page(self, status: int = 200, **values: Any) -> web.Response:
        empty: dict[str, Any] = dict.fromkeys(("error", "done", "preview", "action", "order", "result", "choose"), "")
        return _html(self._page("repair.html", "Repair", **(empty | {"issues": [], "actions": []} | values)), status)


def _html(text: str, status: int = 200) -> web.Response:
    return web.Response(text=text, status=status, content_type="text/html", charset="utf-8", headers=security.OPERATORS)


def _static(asset: Asset) -> Handler:
    headers = {
        **security.NOTHING,
        "Content-Type": asset.content_type,
        "Cache-Control": "public, max-age=31536000, immutable",
    }

    async def serve(_: web.Request) -> web.StreamResponse:
        return web.Response(body=asset.body, headers=headers)

    return serve


@web.middleware
async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Adds the headers to errors, and turns errors of the broker into a sentence."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        error.headers.update({name: value for name, value in security.NOTHING.items() if name not in error.headers})
        raise
    except Crowded:
        return web.Response(status=503, text="too many different pages are open\n", headers=security.NOTHING)
    except (KafkaError, OpsError, OSError) as error:
        log.warning("%s: %s", request.path, error)
        return web.Response(status=503, text=f"the broker can't be read: {error}\n", headers=security.NOTHING)
