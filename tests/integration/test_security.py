"""A whole secured stack: mutual TLS for every call, SASL over TLS and an authorizer at the broker.

Orders settle as in an unsecured stack. Each credential opens what it is for, and nothing else. The stack is started
once, and every test leaves it serving.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import uuid
from collections.abc import Awaitable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    KafkaConnectionError,
    TopicAuthorizationFailedError,
)
from groupbuy.orders.v1.orders_pb2 import Order, OrderState
from groupbuy.payments.v1.decisions_pb2 import OPERATION_AUTHORISE, OPERATION_REFUND, ProviderCall
from groupbuy.payments.v1.operator_pb2 import RetryCallRequest
from groupbuy.payments.v1.operator_pb2_grpc import OperatorServiceStub

from chassis.identity.tls import CertificateFiles
from chassis.outside.resolve import RetryPolicy
from chassis.routing.peer_calls import CALLER
from devstack.certificates.ca import Authority
from devstack.certificates.credentials import Credentials
from devstack.stack import Stack
from eventlog.admin import acls
from eventlog.admin.acls import Grant, Operation, Resource
from eventlog.broker.security import Cluster, KafkaSecurity, client
from groupbuy_client import AsyncClient, NotAllowed, Unavailable, mtls
from groupbuy_client.transport import expecting
from services.payments.providers.simulator_client.adapter import SimulatedProvider
from shared_kernel.topics import ALL, BUSINESS, GROUP_INBOX, GROUP_LOG, ORDERS, PAYMENT_INBOX
from simulators.psp.server import SERVICE as PROVIDER_SERVICE

SERVICES = ("orders", "groups", "payments")
SOON_S = 30.0
#: Words in the names of fields that identify a person.
PERSONAL = {"phone", "email", "address", "birthday", "surname", "passport", "avatar", "nickname"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("secured") / "run", secured=True) as started:
        yield started


@pytest.fixture
def credentials(stack: Stack) -> Credentials:
    return credentials_of(stack)


def credentials_of(stack: Stack) -> Credentials:
    assert stack.credentials is not None
    return stack.credentials


def caller(stack: Stack, name: str) -> AsyncClient:
    """A client with an identity's certificate."""
    assert stack.credentials is not None
    issued = stack.credentials.issued[name]
    orders, groups, payments = (stack.endpoints[service] for service in SERVICES)
    certificate = mtls(issued.certificate, issued.key, issued.ca)
    return AsyncClient(orders=orders, groups=groups, payments=payments, credentials=certificate)


def user(stack: Stack, name: str, **changes: Any) -> dict[str, Any]:
    """Settings of a Kafka client that authenticates as a user."""
    assert stack.credentials is not None
    kafka = stack.credentials.kafka
    settings = {"mechanism": "SCRAM-SHA-512", "password": kafka.passwords.get(name, "none"), "ca": kafka.issued.ca}
    return client(Cluster(stack.kafka, KafkaSecurity(user=name, **{**settings, **changes})))


def ops(stack: Stack, *arguments: str, as_user: str = "ops") -> subprocess.CompletedProcess[str]:
    """Runs a command of the command line with its own credentials only."""
    assert stack.credentials is not None
    environment = {"PATH": "/usr/bin:/bin", **stack.credentials.environment(as_user)}
    command = (sys.executable, "-m", "ops.main", *arguments)
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


async def final(shop: AsyncClient, order: Order) -> str:
    """The final state of an order."""
    async for seen in shop.watch_order(order.name, patience_s=SOON_S):
        order = seen
    return OrderState.Name(order.state)


async def test_an_order_runs_to_its_settlement_and_the_books_are_equal(stack: Stack) -> None:
    async with caller(stack, "merchant") as merchant, caller(stack, "shop") as shop:
        campaign = await merchant.create_campaign(
            product="mug",
            currency="CNY",
            solo_price_minor=9_900,
            tiers=[(2, 7_900)],
            capacity=2,
            window=timedelta(minutes=5),
            hold_window=timedelta(minutes=1),
        )

        async def order(customer: str, group: str = "") -> Order:
            placed = await shop.place_order(
                customer=customer,
                campaign=campaign.name,
                group=group,
                currency="CNY",
                max_unit_price_minor=9_900,
                payment_method="card_ok",
                timeout_s=SOON_S,
            )
            return placed.order

        leader = await order("c1")
        joiner = await order("c2", leader.group)
        assert [await final(shop, one) for one in (leader, joiner)] == ["ORDER_STATE_SETTLED"] * 2
    provider = stack.endpoints["provider"]
    audited = await asyncio.to_thread(ops, stack, "audit", "--kafka", stack.kafka, "--provider", provider)
    assert audited.returncode == 0, audited.stderr
    assert '"books_equal": true' in audited.stdout


def test_repairs_take_the_operator_from_the_certificate(stack: Stack) -> None:
    payments = ("--payments", stack.endpoints["payments"])
    listed = ops(stack, "repair", "list", *payments, "--json")
    assert (listed.returncode, listed.stderr) == (0, "")
    name = f"groups/{uuid.uuid4()}/orders/{uuid.uuid4()}/payment"
    unknown = ops(stack, "repair", "retry", name, "refund", "--reason", "why", *payments)
    assert unknown.returncode == 2
    assert "PAYMENT_NOT_FOUND" in unknown.stderr


async def test_only_an_operator_repairs_and_nobody_names_another_operator(stack: Stack) -> None:
    issued = credentials_of(stack).issued
    name = f"groups/{uuid.uuid4()}/orders/{uuid.uuid4()}/payment"
    request = RetryCallRequest(name=name, request_id=str(uuid.uuid4()), reason="why", operation=OPERATION_REFUND)
    for identity, metadata, code in (
        ("operator", (), grpc.StatusCode.NOT_FOUND),
        ("operator", ((CALLER, "somebody"),), grpc.StatusCode.PERMISSION_DENIED),
        ("support", (), grpc.StatusCode.PERMISSION_DENIED),
        ("shop", (), grpc.StatusCode.PERMISSION_DENIED),
    ):
        one = issued[identity]
        options = expecting("payments", "groupbuy.internal")
        secure = mtls(one.certificate, one.key, one.ca)
        async with grpc.aio.secure_channel(stack.endpoints["payments"], secure, options=options) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await OperatorServiceStub(channel).RetryCall(request, timeout=SOON_S, metadata=metadata)
        assert caught.value.code() is code, (identity, metadata)


async def denied(call: Awaitable[object]) -> str:
    with pytest.raises(NotAllowed) as caught:
        await call
    return caught.value.reason


async def test_an_identity_may_make_only_the_calls_of_the_policy(stack: Stack) -> None:
    async with caller(stack, "shop") as shop, caller(stack, "webhooks") as webhooks:
        payment = f"groups/{uuid.uuid4()}/orders/{uuid.uuid4()}/payment"
        assert await denied(shop.refund_payment(payment)) == "METHOD_NOT_ALLOWED"
        assert await denied(shop.archive_campaign("campaigns/mug")) == "METHOD_NOT_ALLOWED"
        assert await denied(webhooks.get_balances()) == "METHOD_NOT_ALLOWED"
    async with caller(stack, "kafka") as broker:
        # Its certificate is of the same authority, but the policy does not list it.
        assert await denied(broker.get_group(f"groups/{uuid.uuid4()}")) == "METHOD_NOT_ALLOWED"


async def test_calls_in_plaintext_and_with_a_certificate_of_another_authority_are_refused(
    stack: Stack, credentials: Credentials, tmp_path: Path
) -> None:
    shop = credentials.issued["shop"]
    other = Authority(tmp_path).issue("shop", "spiffe://groupbuy.internal/client/shop")
    for name in (*SERVICES, "provider"):
        for wrong in (None, mtls(other.certificate, other.key, shop.ca)):
            one_try = [("grpc.enable_retries", 0)]
            async with AsyncClient(stack.endpoints[name], credentials=wrong, options=one_try) as stranger:
                with pytest.raises(Unavailable) as caught:
                    await stranger.get_group(f"groups/{uuid.uuid4()}", timeout_s=SOON_S)
                assert caught.value.code == grpc.StatusCode.UNAVAILABLE


async def test_a_server_with_another_identity_is_not_called(stack: Stack, credentials: Credentials) -> None:
    """A client that is redirected to another process of the same authority sends it nothing."""
    shop = credentials.issued["shop"]
    one_try = [("grpc.enable_retries", 0)]
    for name in ("groups", "payments", "provider"):
        certificate = mtls(shop.certificate, shop.key, shop.ca)
        async with AsyncClient(orders=stack.endpoints[name], credentials=certificate, options=one_try) as led:
            with pytest.raises(Unavailable):
                await led.get_order(f"groups/{uuid.uuid4()}/orders/{uuid.uuid4()}", timeout_s=SOON_S)


async def test_payments_send_nothing_to_a_process_in_the_place_of_the_provider(
    stack: Stack, credentials: Credentials
) -> None:
    """The monitor's certificate is of the same authority, and has the right host."""
    reached = []

    async def take(_requests: Any, context: Any) -> bytes:
        reached.append(context.auth_context())
        return b""

    monitor = Authority(credentials.directory).issue(
        "impostor", credentials.identities["monitor"], hosts=("localhost", "127.0.0.1")
    )
    pem = [path.read_bytes() for path in (monitor.key, monitor.certificate)]
    server = grpc.aio.server()
    methods = {name: grpc.stream_unary_rpc_method_handler(take) for name in ("MakeCalls", "LookUp", "Authorise")}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(PROVIDER_SERVICE, methods),))
    trusted = grpc.ssl_server_credentials([(pem[0], pem[1])], monitor.ca.read_bytes(), require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", trusted)
    await server.start()
    payments = credentials.issued["payments"]
    files = CertificateFiles(payments.certificate, payments.key, payments.ca)
    provider = SimulatedProvider(
        f"127.0.0.1:{port}",
        RetryPolicy(attempt_s=1.0, budget_s=2.0),
        files=files,
        expect=credentials.identities["provider"],
    )
    call = ProviderCall(
        order=str(uuid.uuid4()),
        operation=OPERATION_AUTHORISE,
        attempt=1,
        amount_minor=100,
        currency="CNY",
        payment_method="card_secret",
    )
    try:
        outcome = await provider.perform(call, str(uuid.uuid4()))
    finally:
        await provider.close()
        await server.stop(None)
    assert reached == []
    assert outcome.WhichOneof("result") == "retry_later"


async def test_the_services_own_identities_make_no_calls(stack: Stack) -> None:
    for name in SERVICES:
        async with caller(stack, name) as service:
            group = f"groups/{uuid.uuid4()}"
            order = f"{group}/orders/{uuid.uuid4()}"
            for call in (service.get_group(group), service.get_order(order), service.get_payment(f"{order}/payment")):
                assert await denied(call) == "METHOD_NOT_ALLOWED"


async def write(stack: Stack, name: str, topic: str) -> None:
    producer = AIOKafkaProducer(**user(stack, name), acks="all", enable_idempotence=True)
    await producer.start()
    try:
        await producer.send_and_wait(topic, b"forged", key=b"k", partition=0)
    finally:
        await producer.stop()


async def test_only_its_writer_writes_a_topic(stack: Stack) -> None:
    for name in (*SERVICES, "ops"):
        for topic in ALL:
            if topic.writer == name:
                continue
            with pytest.raises(TopicAuthorizationFailedError):
                await write(stack, name, topic.name)
    # The same with the right: a dead letter, which no reader takes for a fact.
    await write(stack, "groups", next(one.name for one in ALL if one.writer == "groups" and one.message is None))


async def read(stack: Stack, name: str, topic: str, group: str | None = None) -> None:
    consumer = AIOKafkaConsumer(**user(stack, name), group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        tp = TopicPartition(topic, 0)
        consumer.assign([tp])
        if group is None:
            consumer.seek(tp, 0)
            await consumer.getmany(tp, timeout_ms=10_000)
        else:
            await consumer.commit({tp: 0})
    finally:
        await consumer.stop()


async def test_a_service_reads_the_topics_of_the_registry_and_uses_its_own_groups(stack: Stack) -> None:
    async with asyncio.timeout(SOON_S):
        await read(stack, "orders", GROUP_LOG.name)
        for name, topic in (("orders", GROUP_INBOX), ("payments", ORDERS), ("groups", PAYMENT_INBOX)):
            with pytest.raises(TopicAuthorizationFailedError):
                await read(stack, name, topic.name)
        with pytest.raises(GroupAuthorizationFailedError):
            await read(stack, "orders", GROUP_LOG.name, group="groupbuy.payments.sequencer")


async def test_no_user_connects_without_a_password_or_in_plaintext_or_deletes_a_topic(
    stack: Stack, credentials: Credentials, tmp_path: Path
) -> None:
    wrong = (
        {"bootstrap_servers": stack.kafka},
        user(stack, "orders", password="guessed"),
        user(stack, "nobody"),
        user(stack, "orders", ca=Authority(tmp_path).certificate),
    )
    for settings in wrong:
        admin = AIOKafkaAdminClient(**settings, request_timeout_ms=3_000)
        with pytest.raises(KafkaConnectionError):
            await admin.start()
        await admin.close()
    admin = AIOKafkaAdminClient(**user(stack, "groups"))
    await admin.start()
    try:
        response = await admin.delete_topics([ORDERS.name])
        assert [code for _, code in response.topic_error_codes] == [TopicAuthorizationFailedError.errno]
    finally:
        await admin.close()


@pytest.mark.timeout(300)
async def test_the_command_line_finds_and_revokes_an_extra_right(stack: Stack) -> None:
    for command in ("acls", "topics"):
        checked = await asyncio.to_thread(ops, stack, command, "check", "--kafka", stack.kafka)
        assert checked.returncode == 0, checked.stderr
    assert stack.credentials is not None
    kafka = stack.credentials.kafka
    admin = Cluster(stack.kafka, KafkaSecurity("SCRAM-SHA-512", "admin", kafka.passwords["admin"], kafka.issued.ca))
    await acls.create_grants(admin, [Grant("orders", Resource.TOPIC, PAYMENT_INBOX.name, Operation.WRITE)])
    checked = await asyncio.to_thread(ops, stack, "acls", "check", "--kafka", stack.kafka)
    assert checked.returncode == 1
    assert f"surplus  orders: WRITE on topic {PAYMENT_INBOX.name}" in checked.stderr
    refused = await asyncio.to_thread(ops, stack, "acls", "apply", "--kafka", stack.kafka)
    assert refused.returncode == 2
    assert "ClusterAuthorizationFailedError" in refused.stderr
    applied = await asyncio.to_thread(ops, stack, "acls", "apply", "--kafka", stack.kafka, as_user="admin")
    assert applied.stdout == "0 ACLs created, 1 deleted\n"


def test_no_log_holds_a_secret(stack: Stack, credentials: Credentials) -> None:
    logs = {path.name: path.read_text(encoding="utf-8", errors="replace") for path in stack.logs.iterdir()}
    assert {f"{name}.log" for name in (*SERVICES, "provider", "broker")} <= logs.keys()
    secrets = set(credentials.kafka.passwords.values())
    for name, text in logs.items():
        assert not any(secret in text for secret in secrets), name
        assert "PRIVATE KEY" not in text, name
        assert "card_ok" not in text, name


def test_topics_carry_no_field_that_names_a_person() -> None:
    seen: set[str] = set()

    def walk(message: Any) -> None:
        if message.full_name not in seen:
            seen.add(message.full_name)
            for field in message.fields:
                words = set(field.name.split("_"))
                personal = words & PERSONAL
                assert not personal, f"{message.full_name}.{field.name}"
                if field.message_type is not None:
                    walk(field.message_type)

    for topic in BUSINESS:
        assert topic.message is not None
        walk(topic.message.DESCRIPTOR)
    assert len(seen) > 20
