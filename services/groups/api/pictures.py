"""QR codes of links: drawn by one thread, so many a second for each identity, and kept for a while.

A picture takes 10 to 35 ms of the interpreter, a hundred times a call without one, and other threads wait for as long.
"""

from __future__ import annotations

import asyncio
import io
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

import segno
from groupbuy.groups.v1.links_pb2 import QR_FORMAT_PNG, QR_FORMAT_SVG, QrFormat

from chassis.admission.capacity import CapacityLimiter
from chassis.admission.cost_limits import Costly
from chassis.admission.rate_limit import Limit

KINDS = {QR_FORMAT_SVG: "svg", QR_FORMAT_PNG: "png"}
#: Pictures of one identity.
RATE = Limit(10, 20)
#: Pictures that wait to be drawn in one process, and those of one identity.
MAX_WAITING = 32
SHARE = 16
#: Pictures that are kept.
KEPT = 256
#: Pixels of one module of a QR code.
_SCALE = 8


class Pictures:
    """Draws QR codes."""

    def __init__(self) -> None:
        self._costly = Costly("pictures", RATE)
        self._room = CapacityLimiter(MAX_WAITING, SHARE)
        self._thread = ThreadPoolExecutor(1, "pictures")
        self._kept: OrderedDict[tuple[str, QrFormat.ValueType], bytes] = OrderedDict()

    async def of(self, url: str, form: QrFormat.ValueType) -> bytes:
        """A QR code of the URL, as a file. Raises ApiError RATE_LIMITED, and OVERLOADED where too many wait."""
        known = self._kept.get((url, form))
        if known is not None:
            return known
        self._costly.require()
        with self._room.place("wait for pictures"):
            self._costly.charge(1)
            drawn = await asyncio.get_running_loop().run_in_executor(self._thread, picture, url, form)
        self._kept[url, form] = drawn
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return drawn


def picture(url: str, form: QrFormat.ValueType) -> bytes:
    """A QR code of the URL, as a file."""
    made = io.BytesIO()
    segno.make_qr(url, error="m").save(made, kind=KINDS[form], scale=_SCALE)
    return made.getvalue()
