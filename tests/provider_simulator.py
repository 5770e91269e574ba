"""Helpers for tests against the simulated provider: its configuration, and WeChat Pay's merchant account there."""

from __future__ import annotations

from pathlib import Path

import grpc
from groupbuy.simprovider.v1 import simprovider_pb2 as pb
from groupbuy.simprovider.v1 import simprovider_pb2_grpc as pb_grpc

from chassis.rpc.client_config import channel_options
from services.payments.providers.wechat.merchant_account import MerchantAccount
from simulators.psp.wechat import signer


def stub_of(channel: grpc.aio.Channel) -> pb_grpc.SimProviderServiceAsyncStub:
    """The stub of a channel to the provider."""
    return pb_grpc.SimProviderServiceStub(channel)


async def configure(address: str, behaviour: pb.Behaviour) -> None:
    """Sets the behaviour of the provider at host:port."""
    async with grpc.aio.insecure_channel(address, options=channel_options.options()) as channel:
        await stub_of(channel).Configure(pb.ConfigureRequest(behaviour=behaviour), timeout=10)


def merchant(keys: Path) -> MerchantAccount:
    """The merchant's account at the simulated WeChat Pay, with the keys in a directory."""
    return MerchantAccount.load(
        merchant_id=signer.MERCHANT,
        app_id=signer.APP,
        serial=signer.MERCHANT_SERIAL,
        platform_serial=signer.PLATFORM_SERIAL,
        private_key=keys / "merchant_private.pem",
        platform_key=keys / "platform_public.pem",
        api_v3_key=(keys / "apiv3_key").read_text(),
    )
