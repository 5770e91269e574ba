"""The gate before the event loop: takes calls from gRPC in parallel, and refuses what an overloaded loop can't take.

grpc.aio takes one call from gRPC at a turn of the loop, and every call that it takes costs two tasks and a context,
also a call that is then refused: 0.2 ms to 0.3 ms. At three times its capacity a process would do nothing but refuse.
The gate takes up to 64 calls at a turn and refuses with one operation: 0.07 ms. So the loop keeps most of its time for
answers, and callers receive RESOURCE_EXHAUSTED with details in place of the CANCELLED of gRPC's full queue.

The gate overrides one method of grpc.aio's server, which is private. If this build of grpcio lacks what it needs, the
server works without it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import structlog
from grpc._cython import cygrpc
from grpc.aio import _server as aio_server

from chassis.admission.calls_in_flight import OVERLOADED
from chassis.admission.closed_peers import ClosedPeers
from chassis.admission.load_shedder import LoadShedder
from chassis.admission.rate_limit import RateLimit, TokenBucket
from chassis.routing.peer_calls import forwarded
from chassis.rpc.steps.handlers import Context
from chassis.rpc.steps.time_limits import TimeLimits

log = structlog.stdlib.get_logger(__name__)

#: Calls that are requested from gRPC at the same time, and calls that wait for the event loop behind the gate.
PARALLEL = 64
MAX_WAITING = 64
#: Refusals at the gate: a fifth of the event loop's time. gRPC drops the calls beyond them.
REFUSALS = RateLimit(3_000, 3_000)

_PRIVATE = ("AioServer", "SendInitialMetadataOperation", "ReceiveCloseOnServerOperation", "_ServicerContext")
#: grpc.aio's context of a call; not in the stubs.
_CONTEXT: Any = vars(cygrpc).get("_ServicerContext")
_CODE: int = OVERLOADED.error.code.value[0]


def _context(call: Any) -> Any:
    """grpc.aio's context of a call, which reads its peer and metadata."""
    return _CONTEXT(call, None, None, asyncio.get_running_loop())


class Gate:
    """Calls between gRPC and the event loop, first come, first served."""

    def __init__(self, shedder: LoadShedder, closed_peers: ClosedPeers) -> None:
        self._shedder = shedder
        self._closed_peers = closed_peers
        self._refusals = TokenBucket(REFUSALS)
        self._waiting: deque[Any] = deque()
        self._reader: asyncio.Future[Any] | None = None
        self._room: deque[asyncio.Future[None]] = deque()
        self._failed: Exception | None = None
        #: Calls refused here so far, and calls dropped.
        self.refused = 0
        self.dropped = 0

    def refuses(self) -> bool:
        """Whether to refuse the next call. A refusal uses up a token."""
        if len(self._waiting) < MAX_WAITING or not self._shedder.overloaded or self._refusals.take():
            return False
        self.refused += 1
        self._shedder.refused()
        return True

    def drops(self, peer: Callable[[], str]) -> bool:
        """Whether to drop the next call, as its connection was closed for a flood. `peer` names it."""
        if not self._closed_peers or not self._closed_peers.has(peer()):
            return False
        self.dropped += 1
        return True

    async def put(self, call: Any) -> None:
        """Adds a call; waits while there is no room."""
        while len(self._waiting) >= MAX_WAITING:
            room = asyncio.get_running_loop().create_future()
            self._room.append(room)
            await room
        self._waiting.append(call)
        self._wake()

    async def get(self) -> Any:
        """Takes the next call; waits for one. Raises the error with which the server stopped. One reader at a time."""
        while not self._waiting:
            if self._failed is not None:
                raise self._failed
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        if self._room:
            room = self._room.popleft()
            if not room.done():
                room.set_result(None)
        return self._waiting.popleft()

    def fail(self, error: Exception) -> None:
        """Ends the gate: no further call comes."""
        self._failed = error
        self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


def gated_server(
    options: Sequence[tuple[str, Any]],
    shedder: LoadShedder,
    limits: Callable[[], TimeLimits],
    closed_peers: ClosedPeers,
) -> tuple[grpc.aio.Server, Gate | None]:
    """A server of grpc.aio with a gate, or without one if this build of grpcio does not allow it."""
    needed = [name for name in _PRIVATE if not hasattr(cygrpc, name)]
    if needed or not hasattr(cygrpc.AioServer, "_request_call") or not hasattr(cygrpc, "execute_batch"):
        log.warning("this grpcio has another server: overload is refused later, and at a higher cost", lacks=needed)
        return grpc.aio.server(options=tuple(options)), None
    gate = Gate(shedder, closed_peers)
    server: Any = _GatedServer(options, gate, limits)
    return server, gate


class _GatedServer(aio_server.Server):
    """grpc.aio's server around a core server with a gate."""

    def __init__(
        self, options: Sequence[tuple[str, Any]], gate: Gate, limits: Callable[[], TimeLimits]
    ) -> None:  # not the base's: it would make a core server of its own
        self._loop = cygrpc.get_working_loop()
        self._server = _GatedCore(self._loop, None, (), None, tuple(options), None)
        self._server.guard(gate, limits)


class _GatedCore(cygrpc.AioServer):  # type: ignore[misc] # the library has no types
    """Requests calls in parallel, refuses or passes them on."""

    def guard(self, gate: Gate, limits: Callable[[], TimeLimits]) -> None:
        """Sets the gate. Call it before the start."""
        self._gate = gate
        self._limits = limits
        self._accepting: list[asyncio.Task[None]] = []
        self._refusing: set[asyncio.Task[None]] = set()

    async def _request_call(self) -> Any:
        """Overrides grpc.aio's: its loop calls this for the next call of a method without a queue of its own."""
        if not self._accepting:
            self._accepting = [asyncio.create_task(self._accept(), name="gate") for _ in range(PARALLEL)]
        return await self._gate.get()

    async def _accept(self) -> None:
        try:
            while True:
                # Not kept in a variable: it would hold the last call until the next one comes.
                await self._pass_on(await super()._request_call())
        except Exception as error:  # noqa: BLE001 - grpc.aio's loop receives it, as from its own request
            self._gate.fail(error)

    async def _pass_on(self, call: Any) -> None:
        if self._gate.drops(lambda: _context(call).peer()):
            return
        if self._gate.refuses():
            context = _context(call)
            # A call that another replica has admitted is not refused for load.
            if not forwarded(context):
                task = asyncio.create_task(self._refuse(call, context))
                self._refusing.add(task)
                task.add_done_callback(self._refusing.discard)
                return
        await self._gate.put(call)

    async def _refuse(self, call: Any, context: Context) -> None:
        """Sends the error. Returns when the peer has read it, like any call without an end of its own."""
        task: Any = asyncio.current_task()
        unread = self._limits().unread_responses
        unread.enter(task, context)
        trailing = OVERLOADED.trailing_metadata(context.time_remaining())
        operations = (
            cygrpc.SendInitialMetadataOperation((), 0),
            cygrpc.SendStatusFromServerOperation(trailing, _CODE, OVERLOADED.error.message, 0),
            cygrpc.ReceiveCloseOnServerOperation(0),
        )
        try:
            await cygrpc.execute_batch(call, operations, asyncio.get_running_loop())
        except cygrpc.ExecuteBatchError:
            # The peer has reset the call meanwhile.
            return
        finally:
            unread.leave(task)
