"""`make fuzz LIVE=1`: the same requests as `make fuzz`, over the network to a whole running system.

Every response must be one that the contract allows, no process may be restarted, no partition may be quarantined, and
the audit must find nothing afterwards. The network adds what the worlds of worlds.py lack: gRPC's own limits, real
logs, and other calls.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import grpc
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from groupbuy.inventory.v1.stocks_pb2 import CreateStockRequest, Stock
from groupbuy.inventory.v1.stocks_pb2_grpc import StockServiceStub
from groupbuy.orders.v1 import orders_pb2 as o
from groupbuy.orders.v1.orders_pb2_grpc import OrderServiceStub
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from bench.system import CALL_S, make_campaign, pids, system
from chassis.rpc.client_config.channel_options import options
from chassis.rpc.server import PARTITIONS
from devstack.product import INVENTORY, WITH_INVENTORY
from groupbuy_testing.running import RunningStack
from ops.main import main as ops
from tests.fuzz.calls import Failure, Method, Outcome, checked, methods
from tests.fuzz.inputs import Inputs, Pool
from tests.fuzz.run import CONCURRENCY, MAX_EXAMPLES, REQUESTS, Result
from tests.fuzz.worlds import WORLDS

#: Deadlines in seconds: most suffice, some are too short, some are missing.
DEADLINES_S = (*(2.0,) * 16, 0.002, None)
#: Variants of each valid request, with other names.
VARIANTS = 200
#: Seconds for which a watch is read. It is cancelled then, and a service closes a connection that opens and resets more
#: than 1,200 streams a second.
WATCHED_S = 0.06
#: An operator's claim about what a provider did. The audit finds a false one, so it is fuzzed after the audit.
CLAIMS = "FeedOutcome"
#: Codes that gRPC itself answers without the contract's details: the deadline passed in the client, the request is
#: larger than its limit, or the server is overloaded.
OF_GRPC = frozenset({grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.CANCELLED})
#: grpc.aio's client says this in place of the status when the server ends a stream that the client still writes to:
#: https://github.com/grpc/grpc/issues/36066
LOST_STATUS = "Internal error from Core"


class LiveMethod:
    """One RPC of a running service."""

    def __init__(self, channel: grpc.aio.Channel, descriptor: MethodDescriptor) -> None:
        self.descriptor = descriptor
        self.name = f"{descriptor.containing_service.full_name}/{descriptor.name}"
        kind = f"{'stream' if descriptor.client_streaming else 'unary'}_"
        kind += "stream" if descriptor.server_streaming else "unary"
        self._stub: Any = getattr(channel, kind)(f"/{self.name}", request_serializer=None, response_deserializer=None)

    async def call(self, requests: Sequence[bytes], seconds: float | None) -> Outcome:
        """Calls it. Raises Failure."""
        given: Any = iter(requests) if self.descriptor.client_streaming else requests[0]
        answers: list[bytes] = []
        try:
            call = self._stub(given, timeout=seconds)
            if not self.descriptor.server_streaming:
                answers.append(await call)
            else:
                try:
                    async with asyncio.timeout(WATCHED_S):
                        async for answer in call:
                            answers.append(answer)
                except TimeoutError:
                    call.cancel()
        except grpc.aio.AioRpcError as error:
            metadata: Any = error.trailing_metadata() or ()
            trailing = {name: value for name, value in metadata}  # noqa: C416 - its type is no mapping
            if "grpc-status-details-bin" not in trailing and error.code() in OF_GRPC:
                return Outcome(error.code(), "", [])
            details = error.details() or ""
            if self.descriptor.client_streaming and details == LOST_STATUS:
                return Outcome(error.code(), "", [])
            return Outcome(error.code(), checked(error.code(), details, trailing), [])
        return Outcome(grpc.StatusCode.OK, "", answers)


class Names:
    """Names of real resources, by kind."""

    #: Patterns of the kinds' names.
    KINDS: Mapping[str, re.Pattern[str]] = {
        "payment": re.compile("groups/[^/]+/orders/[^/]+/payment"),
        "order": re.compile("groups/[^/]+/orders/[^/]+"),
        "group": re.compile("groups/[0-9a-f-]{36}"),
        "campaign": re.compile("campaigns/[^/]+"),
        "stock": re.compile("stocks/[^/]+"),
        "request id": re.compile("[0-9a-f-]{36}"),
    }

    def __init__(self, campaigns: Sequence[str], orders: Sequence[o.Order], stocks: Sequence[str]) -> None:
        self.orders = [order.name for order in orders]
        self.groups = sorted({order.group for order in orders})
        self.payments = [f"{order.name}/payment" for order in orders]
        self.campaigns, self.stocks = list(campaigns), list(stocks)
        self.request_ids = [str(uuid4()) for _ in range(VARIANTS)]
        self._of_kind = {
            "payment": self.payments,
            "order": self.orders,
            "group": self.groups,
            "campaign": self.campaigns,
            "stock": self.stocks,
            "request id": self.request_ids,
        }

    def known(self) -> dict[str, list[str]]:
        """The names by the name of the field that accepts them."""
        return {
            "name": [*self.orders, *self.groups, *self.campaigns, *self.payments, *self.stocks],
            "group": [*self.groups, ""],
            "parent": [*self.groups, "groups/-"],
            "campaign": self.campaigns,
            "target": [*self.groups, *self.campaigns],
            "stock": [*self.stocks, ""],
            "customer": ["c0", "c1"],
            "request_id": self.request_ids,
            "paths": ["window", "tiers", "capacity", "total", "display_name", "lease_divisor", "*", "name", "etag"],
        }

    def put_into(self, message: Any, chance: random.Random) -> None:
        """Replaces every name in a message, at any depth, by a random real one of its kind."""
        for field, value in message.ListFields():
            if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
                for inner in value if field.is_repeated else (value,):
                    self.put_into(inner, chance)
            elif field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated:
                for kind, pattern in self.KINDS.items():
                    if pattern.fullmatch(value):
                        setattr(message, field.name, chance.choice(self._of_kind[kind]))
                        break

    def with_real_names(self, good: Iterable[Message], chance: random.Random) -> list[Message]:
        """VARIANTS of each valid request, with real names."""
        made = []
        for one in good:
            for _ in range(VARIANTS):
                copy = type(one).FromString(one.SerializeToString())
                self.put_into(copy, chance)
                made.append(copy)
        return made


def prepare(running: RunningStack) -> Names:
    """Makes a campaign with open groups, one whose group is charged, and one with stock and a limit per customer."""
    with grpc.insecure_channel(running.endpoints[INVENTORY], options=list(options())) as channel:
        create = CreateStockRequest(stock=Stock(display_name="Fuzz", total=1_000), request_id=str(uuid4()))
        stock = StockServiceStub(channel).CreateStock(create, timeout=CALL_S).name
    opened, filled = make_campaign(running, capacity=10), make_campaign(running, capacity=2)
    limited = make_campaign(running, stock=stock, limit_per_customer=3)
    stub = OrderServiceStub(running.orders)

    def place(campaign: str, customer: str, group: str = "", wait: o.Wait.ValueType = o.WAIT_SEAT_DECIDED) -> o.Order:
        request = o.PlaceOrderRequest(
            customer=customer,
            campaign=campaign,
            group=group,
            quantity=1,
            currency="CNY",
            max_unit_price_minor=9_900,
            payment_method="card_4111",
            request_id=str(uuid4()),
            wait=wait,
        )
        return stub.PlaceOrder(request, timeout=CALL_S).order

    orders = [place(opened, f"c{number}") for number in range(15)]
    orders += [place(limited, f"c{number % 2}") for number in range(4)]
    for number in range(5):
        leader = place(filled, f"c{number}")
        orders += [leader, place(filled, f"d{number}", leader.group, o.WAIT_FINAL)]
    return Names((opened, filled, limited), orders, (stock,))


async def fuzz(
    endpoint: str, method: Method, names: Names, good: Sequence[Message], given: argparse.Namespace
) -> Result:
    """Sends the requests to one RPC of a running service, until their number or the time is over."""
    result, codes, reasons = Result(method.name), Counter[str](), Counter[str]()
    pool, source = Pool(names.known()), random.Random(f"{given.seed} {method.name}")
    valid = names.with_real_names((one for one in good if one.DESCRIPTOR is method.descriptor.input_type), source)
    inputs = Inputs(method.descriptor.input_type, valid, pool, source.getrandbits(64))
    answer = GetMessageClass(method.descriptor.output_type)
    chance, began = inputs.chance, time.monotonic()
    until = began + given.seconds

    async def some(live: LiveMethod, count: int) -> None:
        for _ in range(count):
            if time.monotonic() > until:
                break
            number = chance.choice((0, 1, 1, 2, 3)) if method.descriptor.client_streaming else 1
            sent = [inputs.next() for _ in range(number)]
            try:
                outcome = await live.call(sent, chance.choice(DEADLINES_S))
                for data in outcome.answers[:1]:
                    try:
                        decoded = answer.FromString(data)
                    except DecodeError as error:
                        raise Failure(f"{error}; answer {data.hex()}") from None
                    if chance.random() < 0.05:
                        pool.learn(decoded, chance)
            except Failure as failure:
                result.failed += 1
                if len(result.failures) < MAX_EXAMPLES:
                    result.failures.append(f"{failure}; request {' '.join(one[:2_000].hex() for one in sent)}")
                continue
            finally:
                result.requests += 1
            codes[outcome.code.name] += 1
            if outcome.reason:
                reasons[outcome.reason] += 1

    async with grpc.aio.insecure_channel(endpoint, options=list(options(retries=False))) as channel:
        live = LiveMethod(channel, method.descriptor)
        await asyncio.gather(*(some(live, given.requests // CONCURRENCY) for _ in range(CONCURRENCY)))
    result.codes, result.reasons = dict(codes.most_common()), dict(reasons.most_common())
    result.seconds = round(time.monotonic() - began, 1)
    return result


def all_partitions(endpoint: str) -> bool:
    """Whether a service serves all its partitions."""
    with grpc.insecure_channel(endpoint, options=list(options())) as channel:
        answer = HealthStub(channel).Check(HealthCheckRequest(service=PARTITIONS), timeout=CALL_S)
        return bool(answer.status == HealthCheckResponse.SERVING)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the fuzzer against a system of its own and returns the exit code."""
    parser = argparse.ArgumentParser(prog="make fuzz LIVE=1", description="Random requests to a running system.")
    parser.add_argument("--requests", type=int, default=REQUESTS, help="requests to each RPC (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="determines the requests (%(default)s)")
    parser.add_argument("--seconds", type=float, default=math.inf, help="most time for each RPC (unlimited)")
    parser.add_argument(
        "--only", action="append", default=[], help="fuzz only RPCs with this text in their names; may be repeated"
    )
    given = parser.parse_args(arguments)
    results: list[Result] = []
    with system(plan=WITH_INVENTORY) as running, TemporaryDirectory() as directory:
        names, before = prepare(running), pids(running)
        worlds = {service: world_of(Path(directory)) for service, world_of in WORLDS.items()}

        def run(*, claims: bool) -> None:
            for service, world in worlds.items():
                for method in methods(world.servicers):
                    wanted = not given.only or any(one in method.name for one in given.only)
                    if not wanted or method.name.endswith(CLAIMS) is not claims:
                        continue
                    one = asyncio.run(fuzz(running.endpoints[service], method, names, world.good, given))
                    results.append(one)
                    shown = ", ".join(f"{code} {count}" for code, count in one.codes.items())
                    print(f"{one.method:52} {one.requests:7} in {one.seconds:5.0f} s  {shown}", flush=True)
                    for failure in one.failures:
                        print(f"  FAILED {failure}", flush=True)

        run(claims=False)
        audited = ops(["audit", "--kafka", running.kafka, "--provider", running.endpoints["provider"]])
        run(claims=True)
        restarted = [name for name, pid in pids(running).items() if before.get(name) != pid]
        stopped = [service for service in worlds if not all_partitions(running.endpoints[service])]
    report = {
        "methods": len(results),
        "requests": sum(one.requests for one in results),
        "failures": sum(one.failed for one in results),
        "restarted": restarted,
        "quarantined": stopped,
        "audit": audited,
    }
    print(json.dumps(report))
    return 0 if results and not (report["failures"] or restarted or stopped or audited) else 1


if __name__ == "__main__":
    sys.exit(main())
