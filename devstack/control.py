"""Runs a stack or a broker for another process, which controls it over standard input and output.

`groupbuy_testing` starts this module, so that a test process imports none of these packages. Requests and responses are
JSON objects, one a line:

    {"id": 1, "call": "kill", "arguments": {"name": "orders"}}
    {"id": 1, "result": null}    or    {"id": 1, "error": "the stack has no 'shop', only orders"}

Requests run concurrently and responses come in any order. At the end of standard input everything is stopped, so no
process outlives the one that controls it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TextIO

from devstack.errors import DevstackError
from devstack.kafka.broker import Broker
from devstack.stack import Stack

# More than the threads of any test that controls one stack.
_CONCURRENT = 16

log = logging.getLogger(__name__)

Calls = Mapping[str, Callable[..., Any]]


def stack_calls(stack: Stack) -> Calls:
    """The calls that control a stack."""

    def start() -> dict[str, Any]:
        stack.start()
        return {"kafka": stack.kafka, "endpoints": stack.endpoints, "partitions": stack.partitions}

    def add_replica(service: str) -> dict[str, Any]:
        name = stack.add_replica(service)
        return {"name": name, "endpoint": stack.endpoints[name]}

    def failure() -> str | None:
        found = stack.failure()
        return None if found is None else str(found)

    def of_broker(call: Callable[[Broker], None]) -> Callable[[], None]:
        # The stack raises BrokerFailed only when the call is made: its broker may be somebody else's.
        return lambda: call(stack.broker)

    return {
        "start": start,
        "add_replica": add_replica,
        "failure": failure,
        "names": lambda: stack.names,
        "pid": stack.pid,
        "kill": stack.kill,
        "freeze": stack.freeze,
        "thaw": stack.thaw,
        "stop_service": stack.stop_service,
        "start_service": stack.start_service,
        "wait_serving": stack.wait_serving,
        "kill_broker": of_broker(Broker.kill),
        "stop_broker": of_broker(Broker.stop),
        "restart_broker": of_broker(Broker.restart),
    }


def broker_calls(broker: Broker, directory: Path) -> Calls:
    """The calls that control a single broker."""

    def start() -> dict[str, Any]:
        broker.start(directory)
        return {"kafka": broker.bootstrap}

    return {"start": start}


class _Responses:
    """Writes responses, one at a time. A caller that has gone away is ignored: the end of its requests stops us."""

    def __init__(self, output: TextIO) -> None:
        self._output = output
        self._lock = threading.Lock()

    def write(self, response: Mapping[str, Any]) -> None:
        """Writes one line."""
        with self._lock, contextlib.suppress(OSError):
            self._output.write(json.dumps(response) + "\n")
            self._output.flush()


def serve(calls: Calls, stop: Callable[[], None], *, requests: Iterable[str], output: TextIO) -> None:
    """Answers requests until the input ends, then calls `stop`, which has to cancel a start that is in progress."""
    responses = _Responses(output)

    def answer(request: Mapping[str, Any]) -> None:
        number = request["id"]
        try:
            result = calls[request["call"]](**request.get("arguments", {}))
        except DevstackError as error:
            responses.write({"id": number, "error": str(error)})
        except Exception as error:
            log.exception("request %s failed", request)
            responses.write({"id": number, "error": repr(error)})
        else:
            responses.write({"id": number, "result": result})

    with ThreadPoolExecutor(_CONCURRENT) as pool:
        try:
            for line in requests:
                pool.submit(answer, json.loads(line))
        finally:
            stop()


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves requests for one stack or broker. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m groupbuy_settlement devstack.control",
        description="Runs a stack or a broker that another process controls over standard input and output.",
    )
    parser.add_argument("system", choices=("stack", "broker"))
    parser.add_argument("directory", type=Path, help="for its data and logs")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if options.system == "stack":
        stack = Stack(options.directory)
        serve(stack_calls(stack), stack.stop, requests=sys.stdin, output=sys.stdout)
        return 0
    cancel = threading.Event()
    broker = Broker(cancel=cancel)

    def stop() -> None:
        cancel.set()
        broker.release()

    serve(broker_calls(broker, options.directory), stop, requests=sys.stdin, output=sys.stdout)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
