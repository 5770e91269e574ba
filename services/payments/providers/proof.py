"""Proves credentials at the start of the process: one harmless call for each account at a provider that offers one.

Only the provider's own refusal ends the start. An outage of the provider does not: orders wait for it in any case.
"""

from __future__ import annotations

import asyncio

import aiohttp

from chassis.outside.call_errors import CallError
from services.payments.providers.registry import wechat_account
from services.payments.providers.wechat.client import SIGN_ERROR, WeChatClient, WeChatFailed
from services.payments.settings import PaymentsSettings

#: Seconds for all calls. The start waits for them.
TIMEOUT_S = 3.0
#: Read of the Stripe account's balance: it moves nothing.
BALANCE = "/v1/balance"
#: Read of WeChat Pay's certificates: it moves nothing, and has to be signed with the merchant's key.
CERTIFICATES = "/v3/certificates"


async def refused_credentials(settings: PaymentsSettings) -> list[str]:
    """A sentence for each credential that its provider refuses; it names the variable and not the credential."""
    found = await asyncio.gather(_stripe(settings), _wechat(settings))
    return [sentence for sentence in found if sentence]


async def _stripe(settings: PaymentsSettings) -> str:
    key = settings.stripe_keys().first()
    if not key:
        return ""
    reason = await _refusal_of_stripe(key, settings.stripe_api_base)
    name = settings.variable("stripe_key_file" if settings.stripe_key_file else "stripe_key")
    return f"{name} is refused: {reason}" if reason else ""


async def _refusal_of_stripe(key: str, api_base: str) -> str:
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(api_base.rstrip("/") + BALANCE, headers={"Authorization": f"Bearer {key}"}) as response,
        ):
            # 403: the key is good, but may not read the balance.
            if response.status != 401:
                return ""
            error = (await response.json(content_type=None))["error"]
            return f"Stripe answers {str(error.get('code') or error['type'])[:100]}"
    except (aiohttp.ClientError, TimeoutError, LookupError, TypeError, ValueError, AttributeError):
        # An outage, or a proxy's answer: it says nothing about the key.
        return ""


async def _wechat(settings: PaymentsSettings) -> str:
    account = wechat_account(settings)
    if account is None:
        return ""
    client = WeChatClient(account, settings.wechat_api_base)
    try:
        await client.request("GET", CERTIFICATES, TIMEOUT_S)
    except WeChatFailed as error:
        if error.code == SIGN_ERROR:
            names = " or ".join(settings.variable(name) for name in ("wechat_private_key", "wechat_serial"))
            return f"{names} is refused: WeChat Pay can't verify the signature of merchant {settings.wechat_merchant}"
    except CallError:
        pass
    finally:
        await client.close()
    return ""
