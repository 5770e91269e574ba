"""The example clients in other languages: each is generated, built, and run against a service that makes it retry.

A language whose toolchain is missing is skipped. The builds fetch the pinned dependencies from the package registries.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import NamedTuple, NoReturn

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc.code_pb2 import INVALID_ARGUMENT, RESOURCE_EXHAUSTED
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from groupbuy.groups.v1 import campaigns_pb2, campaigns_pb2_grpc, links_pb2, links_pb2_grpc
from groupbuy.orders.v1 import orders_pb2, orders_pb2_grpc
from grpc_status import rpc_status

from chassis.rpc import validation
from chassis.rpc.client_config import retry_policy
from chassis.rpc.errors import ApiError
from protos.generate import PROTOS, ROOT

EXAMPLES = ROOT / "examples"
GROUP = "groups/510a5209-1010-5cce-9eac-8b7fb123d3af"
#: Seconds for one step of a build with empty caches, on two busy cores.
BUILD_LIMIT_S = 500


class Language(NamedTuple):
    """Tools on PATH, commands that build, and the command that runs the example. Maven does both in one command."""

    tools: tuple[str, ...]
    build: tuple[tuple[str, ...], ...]
    run: tuple[str, ...]


LANGUAGES = {
    "go": Language(("go",), (("buf", "generate"), ("go", "build", "-o", "example", ".")), ("./example",)),
    "java": Language(("javac", "mvn"), (), ("mvn", "-B", "-q", "compile", "exec:java")),
    "typescript": Language(
        ("node", "npm"),
        (("npm", "ci", "--ignore-scripts"), ("npm", "run", "build")),
        ("npm", "start", "--silent"),
    ),
}


class Service(
    orders_pb2_grpc.OrderServiceServicer,
    campaigns_pb2_grpc.CampaignServiceServicer,
    links_pb2_grpc.LinkServiceServicer,
):
    """Refuses the first call of each kind, and ends the first watch after one message."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.requests: list[Message] = []
        self.members: list[str] = []
        self.without_deadline: list[str] = []

    def CreateCampaign(
        self, request: campaigns_pb2.CreateCampaignRequest, context: grpc.ServicerContext
    ) -> campaigns_pb2.Campaign:
        if self._received(request, context) == 1:
            context.abort(grpc.StatusCode.UNAVAILABLE, "starting")
        request.campaign.name = "campaigns/pot"
        return request.campaign

    def PlaceOrder(
        self, request: orders_pb2.PlaceOrderRequest, context: grpc.ServicerContext
    ) -> orders_pb2.PlaceOrderResponse:
        if self._received(request, context) == 1:
            retry = RetryInfo()
            retry.retry_delay.FromMilliseconds(50)
            refuse(context, RESOURCE_EXHAUSTED, "at capacity", ErrorInfo(reason="OVERLOADED"), retry)
        try:
            validation.validate(request)
        except ApiError as error:
            invalid = BadRequest()
            for field, text in error.fields:
                invalid.field_violations.add(field=field, description=text)
            refuse(context, INVALID_ARGUMENT, error.message, ErrorInfo(reason="INVALID_FIELDS"), invalid)
        order = orders_pb2.Order(name=f"{GROUP}/orders/{request.request_id}", group=GROUP)
        if len(self.members) == 3:
            order.state, order.reason = orders_pb2.ORDER_STATE_REFUSED, "GROUP_FULL"
        else:
            self.members.append(request.customer)
            order.state = orders_pb2.ORDER_STATE_RESERVED
        return orders_pb2.PlaceOrderResponse(order=order)

    def CreateShareLink(
        self, request: links_pb2.CreateShareLinkRequest, context: grpc.ServicerContext
    ) -> links_pb2.CreateShareLinkResponse:
        self._received(request, context)
        return links_pb2.CreateShareLinkResponse(share_token="token")

    def ResolveShareLink(
        self, request: links_pb2.ResolveShareLinkRequest, context: grpc.ServicerContext
    ) -> links_pb2.ResolveShareLinkResponse:
        self._received(request, context)
        return links_pb2.ResolveShareLinkResponse(target=GROUP, joinable=True)

    def WatchOrder(
        self, request: orders_pb2.WatchOrderRequest, context: grpc.ServicerContext
    ) -> Iterator[orders_pb2.Order]:
        if self._received(request, context) == 1:
            yield orders_pb2.Order(name=request.name, revision=1, state=orders_pb2.ORDER_STATE_CONFIRMED)
            context.abort(grpc.StatusCode.UNAVAILABLE, "the service stops")
        yield orders_pb2.Order(name=request.name, revision=2, state=orders_pb2.ORDER_STATE_SETTLED, captured_minor=7900)

    def _received(self, request: Message, context: grpc.ServicerContext) -> int:
        """The number of calls of this kind so far."""
        with self._lock:
            self.requests.append(request)
            left_s = context.time_remaining()
            if left_s is None or left_s > 200:
                self.without_deadline.append(request.DESCRIPTOR.name)
            return len(self.of(type(request)))

    def of(self, kind: type[Message]) -> list[Message]:
        return [request for request in self.requests if isinstance(request, kind)]


def refuse(context: grpc.ServicerContext, code: int, message: str, *details: Message) -> NoReturn:
    status = Status(code=code, message=message)
    for detail in details:
        status.details.add().Pack(detail)
    context.abort_with_status(rpc_status.to_status(status))
    raise AssertionError("not reached")


@pytest.fixture
def service() -> Iterator[tuple[Service, str]]:
    servicer = Service()  # type: ignore[abstract]  # the examples call no other method
    server = grpc.server(futures.ThreadPoolExecutor(4))
    orders_pb2_grpc.add_OrderServiceServicer_to_server(servicer, server)
    campaigns_pb2_grpc.add_CampaignServiceServicer_to_server(servicer, server)
    links_pb2_grpc.add_LinkServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer, f"127.0.0.1:{port}"
    server.stop(None).wait()


def run(command: tuple[str, ...], folder: Path, **variables: str) -> str:
    """Output of a command that succeeds. The development environment has buf."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=BUILD_LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4_000:]}"
    return done.stdout


@pytest.mark.timeout(2 * BUILD_LIMIT_S)
@pytest.mark.parametrize("name", LANGUAGES)
def test_the_example_builds_retries_and_sees_its_order_settle(
    name: str, service: tuple[Service, str], tmp_path: Path
) -> None:
    language = LANGUAGES[name]
    missing = [tool for tool in language.tools if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not on PATH")
    folder = tmp_path / "examples" / name
    # Without what a developer built in the working tree.
    unbuilt = shutil.ignore_patterns("gen", "target", "node_modules", "dist")
    shutil.copytree(EXAMPLES / name, folder, ignore=unbuilt)
    shutil.copytree(PROTOS, tmp_path / "protos")
    for command in language.build:
        run(command, folder)

    servicer, address = service
    output = run(language.run, folder, ORDERS_AT=address, GROUPS_AT=address)

    assert "bob joined: " in output
    assert "REFUSED GROUP_FULL" in output
    assert "reason INVALID_FIELDS" in output
    assert "campaign must be campaigns/{campaign}" in output
    assert "SETTLED 7900" in output
    assert servicer.members == ["ann", "bob", "cat"]
    assert servicer.without_deadline == []
    # A retry is the same request, and a reopened watch goes on after the last revision.
    for kind in (campaigns_pb2.CreateCampaignRequest, orders_pb2.PlaceOrderRequest):
        first, second = servicer.of(kind)[:2]
        assert first.request_id == second.request_id  # type: ignore[attr-defined]
    assert [request.from_revision for request in servicer.of(orders_pb2.WatchOrderRequest)] == [0, 1]  # type: ignore[attr-defined]


#: File of each example with its retries, and the pattern of a constant there.
CALLS = {
    "go": ("calls.go", r"{name} += (\d[\d.]*)( \* time.(?:Milli)?[sS]econd)?"),
    "java": ("src/main/java/com/example/groupbuy/Calls.java", r"{NAME} = (\d[\d._]*)"),
    "typescript": ("src/calls.ts", r"{name} = (\d[\d._]*)"),
}


@pytest.mark.parametrize("name", LANGUAGES)
def test_the_examples_have_the_retry_policy_of_the_contract(name: str) -> None:
    file, pattern = CALLS[name]
    text = (EXAMPLES / name / file).read_text(encoding="utf-8")

    def constant(go: str, others: str) -> float:
        named = pattern.replace("{name}", go if name == "go" else others)
        snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", others).upper()
        found = re.search(named.replace("{NAME}", snake), text)
        assert found is not None, others
        milliseconds = 1_000 if "time.Second" in found[0] else 1
        return float(found[1].replace("_", "")) * milliseconds

    found = (
        constant("minPause", "minPauseMs"),
        constant("pauseFactor", "pauseFactor"),
        constant("maxPause", "maxPauseMs"),
    )
    assert found == (retry_policy.INITIAL_S * 1_000, retry_policy.MULTIPLIER, retry_policy.MAX_S * 1_000)


@pytest.mark.parametrize("name", LANGUAGES)
def test_the_readme_of_each_example_is_short(name: str) -> None:
    assert len((EXAMPLES / name / "README.md").read_text(encoding="utf-8").splitlines()) <= 30
