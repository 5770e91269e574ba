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
#: Error code of a request whose signature WeChat Pay can't verify.
SIGN_ERROR = "SIGN_ERROR"


class WeChatFailed(Exception):
    """WeChat Pay answered with an error: HTTP status, error code, message."""

    def __init__(self, status: int, code: str, message: str, after_ms: int = 0) -> None:
        """`after_ms`: delay of Retry-After in milliseconds; 0 if none."""
        super().__init__(f"{status} {code}: {message}"[:500])
        self.status = status
        self.code = code
        self.after_ms = after_ms


class WeChatClient:
    """Connections of one merchant. Bound to the event loop of the first call."""

    def __init__(self, account: MerchantAccount, api_base: str = API) -> None:
        self.account = account
        self._api_base = api_base.rstrip("/")
        self._session: aiohttp.ClientSession | None = None
        #: Serial numbers of the merchant's keys that WeChat Pay has refused.
        self._refused: set[str] = set()

    async def close(self) -> None:
        """Closes the connections."""
        if self._session is not None:
            await self._session.close()

    async def request(
        self, method: str, path: str, timeout_s: float, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Makes one request; `path` includes the query. Raises WeChatFailed, ResultUnknown.

        While the merchant's keys rotate, one that WeChat Pay does not know is followed by the next.
        """
        serials = sorted(self.account.serials, key=lambda serial: serial in self._refused)
        for serial in serials[:-1]:
            try:
                return await self._request(method, path, timeout_s, body, serial)
            except WeChatFailed as error:
                if error.code != SIGN_ERROR:
                    raise
                self._refused.add(serial)
        return await self._request(method, path, timeout_s, body, serials[-1])

    async def _request(
        self, method: str, path: str, timeout_s: float, body: Mapping[str, Any] | None, serial: str
    ) -> dict[str, Any]:
        if self._session is None:
            self._session = aiohttp.ClientSession()
        sent = json.dumps(body, ensure_ascii=False).encode() if body is not None else b""
        headers = {
            "Authorization": self.account.authorization(method, path, sent, serial),
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
        failed = _json(answer) if status >= 300 else {}
        code = str(failed.get("code", ""))
        if status == 401 and code == SIGN_ERROR:
            # Not signed: WeChat Pay does not know whom it answers. The request had no effect.
            raise WeChatFailed(status, code, str(failed.get("message", "")))
        try:
            self.account.verify(answer_headers.items(), answer)
        except BadSignature as error:
            raise ResultUnknown(f"answer without WeChat Pay's signature: {error}") from error
        if status >= 300:
            raise WeChatFailed(status, code, str(failed.get("message", "")), _after_ms(answer_headers))
        return _json(answer)


def _after_ms(headers: Mapping[str, str]) -> int:
    text = headers.get("Retry-After", "")
    return int(text) * 1000 if text.isdecimal() and len(text) < 6 else 0


def _json(body: bytes) -> dict[str, Any]:
    try:
        read = json.loads(body) if body else {}
    except ValueError:
        return {}
    return read if isinstance(read, dict) else {}
