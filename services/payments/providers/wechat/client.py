"""Client of WeChat Pay's API v3 over aiohttp: signs requests and accepts only answers that WeChat Pay signed.

Written by hand: the maintained Python library (wechatpayv3) blocks its thread, and its base URL can't be changed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import aiohttp

from chassis.outside.call_errors import ResultUnknown
from chassis.outside.signatures import BadSignature
from services.payments.providers.wechat.merchant_account import MerchantAccount

API = "https://api.mch.weixin.qq.com"


class WeChatFailed(Exception):
    """WeChat Pay answered with an error: HTTP status, error code, message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{status} {code}: {message}"[:500])
        self.status = status
        self.code = code


class WeChatClient:
    """Connections of one merchant. Bound to the event loop of the first call."""

    def __init__(self, account: MerchantAccount, api_base: str = API) -> None:
        self.account = account
        self._api_base = api_base.rstrip("/")
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Closes the connections."""
        if self._session is not None:
            await self._session.close()

    async def request(
        self, method: str, path: str, timeout_s: float, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Makes one request; `path` includes the query. Raises WeChatFailed, ResultUnknown."""
        if self._session is None:
            self._session = aiohttp.ClientSession()
        sent = json.dumps(body, ensure_ascii=False).encode() if body is not None else b""
        headers = {
            "Authorization": self.account.authorization(method, path, sent),
            "Accept": "application/json",
            "Content-Type": "application/json",
            "Wechatpay-Serial": self.account.platform_serial,
            "User-Agent": "groupbuy",
        }
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        try:
            async with self._session.request(
                method, self._api_base + path, data=sent or None, headers=headers, timeout=timeout
            ) as response:
                answer = await response.read()
                status, answer_headers = response.status, response.headers
        except TimeoutError as error:
            raise ResultUnknown("no answer in time") from error
        except aiohttp.ClientError as error:
            raise ResultUnknown(f"can't be reached: {type(error).__name__}") from error
        if status >= 500:
            # Often unsigned and from a proxy in between. The result is unknown in either case.
            raise ResultUnknown(f"{status} {_json(answer).get('code', '')}")
        try:
            self.account.verify(answer_headers.items(), answer)
        except BadSignature as error:
            raise ResultUnknown(f"answer without WeChat Pay's signature: {error}") from error
        if status >= 300:
            failed = _json(answer)
            raise WeChatFailed(status, str(failed.get("code", "")), str(failed.get("message", "")))
        return _json(answer)


def _json(body: bytes) -> dict[str, Any]:
    try:
        read = json.loads(body) if body else {}
    except ValueError:
        return {}
    return read if isinstance(read, dict) else {}
