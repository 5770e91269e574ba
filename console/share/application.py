"""The public listener: the page of a share link, its events and its preview picture. Everything else is 404."""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator

import segno
from aiohttp import web
from groupbuy.groups.v1.groups_pb2 import Group
from groupbuy.groups.v1.links_pb2 import ResolveShareLinkResponse

from chassis.admission.rate_limit import BucketsByKey, RateLimit
from console.pages.channels import Channels, Crowded
from console.settings import ConsoleSettings
from console.share.links import LinkFailed, Links, Wrong
from console.share.offer import Offer, join_address, offer_of
from console.share.picture import Pen, picture
from console.share.texts import EN, ZH, Texts, language_of
from console.web import security
from console.web.assets import Asset
from console.web.channel import Channel
from console.web.streams import Places, stream
from console.web.templates import fragment, render

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

#: Requests of one address, and the addresses that are remembered.
PER_ADDRESS = RateLimit(calls_per_second=20, burst=100)
_MAX_ADDRESSES = 10_000
#: Groups with viewers at a time.
MAX_GROUPS = 2_000
_SWEEP_S = 5.0
_MAX_PICTURES = 256
_TOKEN = re.compile(r"[A-Za-z0-9_.~-]{1,500}")
_STATUS = {Wrong.EXPIRED: 410, Wrong.TAMPERED: 404, Wrong.UNKNOWN: 404, Wrong.AWAY: 503, Wrong.BUSY: 429}
_MACROS = "share_macros.html"


class OfferChannel(Channel):
    """The page of one group in one language."""

    def __init__(self, links: Links, name: str, texts: Texts) -> None:
        super().__init__()
        self._links = links
        self._name = name
        self._texts = texts
        self._offer: Offer | None = None
        self._away = False
        self._task: asyncio.Task[None] | None = None

    def follow(self) -> None:
        """Follows the group as long as there are viewers."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(
                self._links.follow(self._name, self._take, self._on_away)
            )

    def _take(self, group: Group) -> None:
        self._away = False
        self._offer = offer_of(group)
        self.touch(1)

    def _on_away(self) -> None:
        self._away = True
        self.touch()

    def refresh(self) -> None:
        """Sets the one part."""
        if self._offer is not None:
            self.set_part("offer", fragment(_MACROS, "offer", self._offer, self._texts))
        self.set_part("away", self._texts("away") if self._away else "")

    async def close(self) -> None:
        """Ends the stream."""
        if self._task is not None:
            self._task.cancel()


class SharePages:
    """The pages of share links."""

    def __init__(self, settings: ConsoleSettings, links: Links, places: Places, address: Callable[[], str]) -> None:
        """`address` is the host and port of the listener, for links without a public URL."""
        self._settings = settings
        self._links = links
        self._places = places
        self._address = address
        self._css, self._js = Asset("share.css"), Asset("share.js")
        self._headers = security.share_page(self._css.csp, self._js.csp)
        self._pen = Pen(settings.picture_font)
        self._pictures: OrderedDict[tuple[str, int, str], bytes] = OrderedDict()
        self._drawing = asyncio.Semaphore(2)
        self._addresses = BucketsByKey(_MAX_ADDRESSES)
        self._offers = Channels[tuple[str, str], OfferChannel](
            MAX_GROUPS, lambda key: OfferChannel(links, key[0], Texts(key[1]))
        )

    def application(self) -> web.Application:
        """The application of the listener."""
        made = web.Application(middlewares=[self._guard], client_max_size=1_024)
        made.router.add_get("/s/{token}", self._page)
        made.router.add_get("/s/{token}/events", self._events, allow_head=False)
        made.router.add_get("/s/{token}/picture.png", self._picture)
        made.router.add_route("*", "/{rest:.*}", _nothing)
        return made

    async def follow(self) -> None:
        """Closes what nobody looks at, until it is cancelled."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            self._offers.sweep()

    async def close(self) -> None:
        """Closes all streams."""
        await self._offers.close()
        await self._links.close()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        token = request.match_info.get("token")
        if token is None or not _TOKEN.fullmatch(token):
            return await _nothing(request)
        if self._addresses.take(request.remote or "", PER_ADDRESS):
            return self._failed(request, Wrong.BUSY)
        try:
            return await handler(request)
        except LinkFailed as failed:
            return self._failed(request, failed.wrong)
        except Crowded:
            return self._failed(request, Wrong.BUSY)
        except web.HTTPException as error:
            error.headers.update({name: value for name, value in security.NOTHING.items() if name not in error.headers})
            raise

    # --- the three paths ---------------------------------------------------------------------------------------------

    async def _page(self, request: web.Request) -> web.StreamResponse:
        token, texts = request.match_info["token"], self._texts(request)
        found = await self._links.resolve(token)
        offer = offer_of(found.group) if found.HasField("group") else None
        joinable = offer is not None and found.joinable
        others = list(self._others(found))
        address = self._url(token)
        text = render(
            "share.html",
            css=self._css,
            js=self._js,
            t=texts,
            address=address,
            picture=f"{address}/picture.png?lang={texts.language}",
            offer=offer,
            joinable=joinable,
            others=others,
            join=join_address(self._settings.join_url, offer, token) if joinable and offer else "",
            code=self._code(token) if joinable else "",
            events=f"/s/{token}/events" if joinable else "",
        )
        return self._html(text)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        found = await self._links.resolve(request.match_info["token"])
        if not found.HasField("group"):
            return await _nothing(request)
        channel = self._offers.get((found.group.name, self._texts(request).language))
        channel.follow()
        return await stream(request, channel, self._places, security.NOTHING, public=True)

    async def _picture(self, request: web.Request) -> web.StreamResponse:
        found = await self._links.resolve(request.match_info["token"])
        group = found.group if found.HasField("group") else found.open_groups[0].group if found.open_groups else None
        offer = offer_of(group) if group is not None else None
        if offer is None:
            return await _nothing(request)
        wanted = request.query.get("lang", "")
        texts = Texts(wanted) if wanted in {EN, ZH} else self._texts(request)
        key = offer.name, offer.version, texts.language
        if key not in self._pictures:
            async with self._drawing:
                self._pictures[key] = await asyncio.to_thread(picture, offer, texts, self._pen)
            while len(self._pictures) > _MAX_PICTURES:
                self._pictures.popitem(last=False)
        headers = {**self._headers, "Content-Security-Policy": security.NOTHING["Content-Security-Policy"]}
        headers["Cache-Control"] = "public, max-age=30"
        return web.Response(body=self._pictures[key], content_type="image/png", headers=headers)

    # --- parts -------------------------------------------------------------------------------------------------------

    def _others(self, found: ResolveShareLinkResponse) -> Iterator[tuple[Offer, str]]:
        """The open groups that a closed one leads to, each with its own link."""
        for one in found.open_groups:
            offer = offer_of(one.group)
            if offer is not None:
                yield offer, f"/s/{one.share_token}"

    @staticmethod
    def _texts(request: web.Request) -> Texts:
        return Texts(language_of(request.headers.get("Accept-Language", "")))

    def _url(self, token: str) -> str:
        base = self._settings.public_url.rstrip("/") or f"http://{self._address()}"
        return f"{base}/s/{token}"

    def _code(self, token: str) -> str:
        code = segno.make(self._url(token), error="m", micro=False)
        return str(code.svg_inline(border=2, omitsize=True, svgclass="qr", lineclass=None))

    def _failed(self, request: web.Request, wrong: Wrong) -> web.Response:
        texts = self._texts(request)
        text = render("share_failed.html", css=self._css, t=texts, wrong=wrong.value)
        response = self._html(text, _STATUS[wrong])
        if wrong in {Wrong.AWAY, Wrong.BUSY}:
            response.headers["Retry-After"] = "3"
        return response

    def _html(self, text: str, status: int = 200) -> web.Response:
        headers = {**self._headers, "Vary": "Accept-Language"}
        return web.Response(text=text, status=status, content_type="text/html", charset="utf-8", headers=headers)


async def _nothing(_: web.Request) -> web.StreamResponse:
    return web.Response(status=404, text="not found\n", headers=security.NOTHING)
