"""A webhook whose connection ends in the middle of its body is a refusal, not a failure of ours with a traceback."""

from __future__ import annotations

from typing import Any, cast

import pytest
from aiohttp import web

from services.payments.providers.connections import Refused
from services.payments.providers.webhook_server import _body


class Ended:
    content_length = 1_000

    async def read(self) -> bytes:
        raise ConnectionResetError("Connection lost")


async def test_a_body_that_is_cut_off_is_refused() -> None:
    request: Any = Ended()
    with pytest.raises(Refused) as caught:
        await _body(cast(web.BaseRequest, request))
    assert caught.value.status == 400
