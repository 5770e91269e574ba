"""A webhook whose connection ends within its body is refused, and is no internal error with a traceback."""

from __future__ import annotations

from typing import Any, cast

import pytest
from aiohttp import web

from chassis.outside.webhook_connections import Refused
from chassis.outside.webhook_server import read_body


class Ended:
    content_length = 1_000

    async def read(self) -> bytes:
        raise ConnectionResetError("Connection lost")


async def test_a_body_that_is_cut_off_is_refused() -> None:
    request: Any = Ended()
    with pytest.raises(Refused) as caught:
        await read_body(cast(web.BaseRequest, request))
    assert caught.value.status == 400
