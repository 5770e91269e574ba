"""QR codes of share links: rendered on one thread, rate-limited for each identity, and cached.

A picture takes 10 to 35 ms of the interpreter, 100 times as long as a call without one, and blocks other threads.
"""

from __future__ import annotations

import asyncio
import io
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

import segno
from groupbuy.groups.v1.links_pb2 import QR_FORMAT_PNG, QR_FORMAT_SVG, QrFormat

from chassis.admission.capacity import CapacityLimiter
from chassis.admission.cost_limits import CostLimit
from chassis.admission.rate_limit import RateLimit

KINDS = {QR_FORMAT_SVG: "svg", QR_FORMAT_PNG: "png"}
#: Pictures a second of one identity, and its burst.
RATE = RateLimit(10, 20)
#: Pictures that wait for the thread in one process, and the share of one identity.
MAX_WAITING = 32
SHARE = 16
#: Pictures in the cache.
MAX_CACHED = 256
#: Pixels of one module of a QR code.
_SCALE = 8


class Pictures:
    """Renders QR codes."""

    def __init__(self) -> None:
        self._cost = CostLimit("pictures", RATE)
        self._limiter = CapacityLimiter(MAX_WAITING, SHARE)
        self._thread = ThreadPoolExecutor(1, "pictures")
        self._cache: OrderedDict[tuple[str, QrFormat.ValueType], bytes] = OrderedDict()

    async def render(self, url: str, form: QrFormat.ValueType) -> bytes:
        """The image file of a URL's QR code. Raises ApiError RATE_LIMITED, and OVERLOADED if too many are waiting."""
        cached = self._cache.get((url, form))
        if cached is not None:
            return cached
        self._cost.require()
        with self._limiter.slot("wait for pictures"):
            self._cost.charge(1)
            rendered = await asyncio.get_running_loop().run_in_executor(self._thread, picture, url, form)
        self._cache[url, form] = rendered
        if len(self._cache) > MAX_CACHED:
            self._cache.popitem(last=False)
        return rendered


def picture(url: str, form: QrFormat.ValueType) -> bytes:
    """The image file of a URL's QR code."""
    file = io.BytesIO()
    segno.make_qr(url, error="m").save(file, kind=KINDS[form], scale=_SCALE)
    return file.getvalue()
