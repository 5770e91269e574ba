"""Which callers the TLS handshake accepts, and how a running server loads new certificates.

Over real connections. Refused here means that no call begins: the caller gets UNAVAILABLE from its own side.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from chassis.identity.access_settings import SecuritySettings
from chassis.identity.tls import BadCertificates, CertificateFiles, RotatingChannel, open_channel
from devstack.certificates.ca import Authority, Issued
from groupbuy_client import AsyncClient, Client, Unavailable, mtls
from tests.unit.chassis.identity.support import IDENTITIES, SOON_S, Answer, answer, call, calling, methods, serving
from tests.waiting import wait_for_async

CHECK = next(one for one in methods("orders") if one.full_name == "grpc.health.v1.Health.Check")
WELL = Answer(grpc.StatusCode.OK)
UNKNOWN = Answer(grpc.StatusCode.UNAUTHENTICATED, "IDENTITY_REQUIRED")
SHOP = IDENTITIES["shop"]


async def refused(opened: Any) -> str:
    """The error of a call that can't connect."""
    stub = opened.unary_unary("/grpc.health.v1.Health/Check")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub(b"", timeout=30)
    assert answer(caught.value) == Answer(grpc.StatusCode.UNAVAILABLE)
    return caught.value.details() or ""


async def test_a_caller_in_plaintext_is_refused(certificates: dict[str, Issued]) -> None:
    async with serving("orders", certificates["orders"]) as port:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as opened:
            await refused(opened)
        async with calling(port, certificates["shop"]) as opened:
            assert await call(opened, CHECK) == WELL


async def test_a_caller_without_a_certificate_is_refused(certificates: dict[str, Issued]) -> None:
    trusting = grpc.ssl_channel_credentials(certificates["orders"].ca.read_bytes())
    async with (
        serving("orders", certificates["orders"]) as port,
        grpc.aio.secure_channel(f"127.0.0.1:{port}", trusting) as opened,
    ):
        await refused(opened)


async def test_a_certificate_of_another_authority_is_refused(certificates: dict[str, Issued], tmp_path: Path) -> None:
    other = Authority(tmp_path).issue("shop", SHOP)
    stranger = Issued(other.certificate, other.key, certificates["orders"].ca)
    async with serving("orders", certificates["orders"]) as port, calling(port, stranger) as opened:
        await refused(opened)


async def test_an_expired_or_future_certificate_is_refused(
    authority: Authority, certificates: dict[str, Issued]
) -> None:
    now, day = datetime.now(UTC), timedelta(days=1)
    async with serving("orders", certificates["orders"]) as port:
        for since in (now - 2 * day, now + day):
            out_of_date = authority.issue("shop_out_of_date", SHOP, since=since, life=day)
            async with calling(port, out_of_date) as opened:
                await refused(opened)


async def test_a_caller_refuses_a_server_of_another_authority_or_with_another_identity(
    authority: Authority, certificates: dict[str, Issued], tmp_path: Path
) -> None:
    # The host matches and the identity does not.
    hosts = ("localhost", "127.0.0.1")
    others = [authority.issue(f"{name}_instead", IDENTITIES[name], hosts=hosts) for name in ("monitor", "groups")]
    for server in (Authority(tmp_path).issue("orders", IDENTITIES["orders"]), *others):
        async with serving("orders", server) as port, calling(port, certificates["shop"]) as opened:
            await refused(opened)


async def test_a_server_switches_to_another_authority_without_a_restart(tmp_path: Path) -> None:
    here, old = tmp_path / "here", Authority(tmp_path / "old")
    shop = old.issue("shop", SHOP)
    served = Authority(here).issue("orders", IDENTITIES["orders"])
    for name, made in (
        ("ca.pem", old.certificate),
        ("orders.pem", old.issue("orders", IDENTITIES["orders"]).certificate),
    ):
        (here / name).write_bytes(made.read_bytes())
    served.key.write_bytes((old.directory / "orders.key").read_bytes())
    new = Authority(tmp_path / "new")
    async with serving("orders", served) as port, calling(port, shop) as opened:
        assert await call(opened, CHECK) == WELL
        fresh = new.issue("orders", IDENTITIES["orders"])
        # Half of a pair: nothing changes.
        served.certificate.write_bytes(fresh.certificate.read_bytes())
        async with calling(port, shop) as again:
            assert await call(again, CHECK) == WELL
        served.key.write_bytes(fresh.key.read_bytes())
        served.ca.write_bytes(new.certificate.read_bytes())
        async with calling(port, new.issue("shop", SHOP)) as newer:
            assert await call(newer, CHECK) == WELL
        async with calling(port, shop) as late:
            await refused(late)

        # Connections with the old authority are refused.
        async def withdrawn() -> bool:
            return await call(opened, CHECK) == UNKNOWN

        await wait_for_async(withdrawn, seconds=SOON_S)


async def test_a_caller_switches_to_a_new_certificate_without_a_restart(
    authority: Authority, certificates: dict[str, Issued], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.identity.tls.RECHECK_S", 0.0)
    mine = (tmp_path / "mine.pem", tmp_path / "mine.key")
    gone_soon = authority.issue("shop_gone_soon", SHOP, life=timedelta(hours=1))
    _copy(gone_soon, *mine)
    async with serving("orders", certificates["orders"]) as port:
        files = CertificateFiles(*mine, certificates["orders"].ca)
        own_pool = [("grpc.use_local_subchannel_pool", 1)]
        dialing = RotatingChannel(f"127.0.0.1:{port}", files, IDENTITIES["orders"], own_pool)
        get = next(one for one in methods("orders") if one.name == "GetOrder")
        first = dialing.channel()
        assert (await call(first, get)).code == grpc.StatusCode.INVALID_ARGUMENT
        assert dialing.channel() is first
        _copy(certificates["shop"], *mine)
        assert (await call(dialing.channel(), get)).code == grpc.StatusCode.INVALID_ARGUMENT
        assert dialing.channel() is not first
        await asyncio.wait_for(dialing.close(), 30)


async def test_a_caller_verifies_the_server_again_within_the_hour(
    certificates: dict[str, Issued], monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = certificates["shop"]
    async with serving("orders", certificates["orders"]) as port:
        dialing = RotatingChannel(
            f"127.0.0.1:{port}", CertificateFiles(shop.certificate, shop.key, shop.ca), IDENTITIES["orders"]
        )
        first = dialing.channel()
        assert dialing.channel() is first
        monkeypatch.setattr("chassis.identity.tls.MAX_AGE_S", -1.0)
        second = dialing.channel()
        assert second is not first
        assert await call(second, CHECK) == WELL
        await asyncio.wait_for(dialing.close(), 30)
        # Without certificates there is nothing to verify.
        plain = RotatingChannel(f"127.0.0.1:{port}", None, "")
        assert plain.channel() is plain.channel()
        await plain.close()


async def test_a_channel_is_opened_from_settings(certificates: dict[str, Issued]) -> None:
    shop = certificates["shop"]
    settings = SecuritySettings(tls_certificate=shop.certificate, tls_key=shop.key, tls_ca=shop.ca)
    async with serving("orders", certificates["orders"]) as port:
        async with open_channel(f"127.0.0.1:{port}", settings, IDENTITIES["orders"]) as opened:
            assert await call(opened, CHECK) == WELL
        async with open_channel(f"127.0.0.1:{port}", settings, IDENTITIES["payments"]) as opened:
            await refused(opened)
        async with open_channel(f"127.0.0.1:{port}", SecuritySettings(insecure=True), "") as opened:
            await refused(opened)


async def test_the_client_package_refuses_a_server_of_another_service(certificates: dict[str, Issued]) -> None:
    shop = certificates["shop"]
    certificate = mtls(shop.certificate, shop.key, shop.ca)
    name = "groups/6f1c0a1e-0d5d-4f4e-9a57-0a3a1f0a8d10"
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]

    def blocking(orders: str, groups: str, trust_domain: str) -> None:
        with Client(
            orders=orders, groups=groups, credentials=certificate, trust_domain=trust_domain, options=options
        ) as client:
            client.get_group(name, timeout_s=SOON_S)

    async with serving("groups", certificates["groups"]) as port:
        here = f"127.0.0.1:{port}"
        async with AsyncClient(here, credentials=certificate, options=options) as client:
            await client.get_group(name, timeout_s=SOON_S)
            # The same address, expected to be another service.
            with pytest.raises(Unavailable):
                await client.get_order(f"{name}/orders/6f1c0a1e-0d5d-4f4e-9a57-0a3a1f0a8d10", timeout_s=SOON_S)
        await asyncio.to_thread(blocking, here, here, "groupbuy.internal")
        with pytest.raises(Unavailable):
            await asyncio.to_thread(blocking, here, here, "elsewhere.example")


def test_invalid_files_are_refused_with_a_reason(
    authority: Authority, certificates: dict[str, Issued], tmp_path: Path
) -> None:
    orders, shop = certificates["orders"], certificates["shop"]
    gone = authority.issue("gone", SHOP, since=datetime.now(UTC) - timedelta(days=2), life=timedelta(days=1))
    nobody = authority.issue("nobody")
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("no certificate")
    for files, why in (
        ((orders.certificate, shop.key, orders.ca), "is not the key of"),
        ((gone.certificate, gone.key, gone.ca), "expired at"),
        ((garbage, orders.key, orders.ca), "no X.509 certificate in PEM"),
        ((orders.certificate, garbage, orders.ca), "is no private key in PEM"),
        ((orders.certificate, orders.key, garbage), "no list of certificates in PEM"),
        ((orders.certificate, orders.key, shop.certificate), "not an authority's"),
        ((nobody.certificate, nobody.key, nobody.ca), "0 URIs among the alternative names, not one"),
        ((tmp_path / "nowhere", orders.key, orders.ca), "can't be read"),
    ):
        with pytest.raises(BadCertificates, match=why):
            CertificateFiles(*files)


def _copy(issued: Issued, certificate: Path, key: Path) -> None:
    certificate.write_bytes(issued.certificate.read_bytes())
    key.write_bytes(issued.key.read_bytes())
