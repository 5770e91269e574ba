"""Attributes a sampled stack of a Python process to a cause: the library or the part of ours that the time went to.

The frame nearest to the leaf that belongs to somebody counts. The interpreter, the C library and helpers of the
standard library belong to their callers, so the parsing of a message counts for protobuf with all the memory that it
allocates, and a loop in a rule counts for the rules. Stacks that end in a wait are left out: with native frames py-spy
can't tell a waiting thread from a running one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

#: The columns of the table, in their order.
CAUSES = (
    "gRPC",
    "protobuf",
    "RocksDB",
    "Kafka client",
    "Faust",
    "event loop",
    "garbage collector",
    "our kernel",
    "our services",
    "other",
)
#: Functions of the interpreter's collector.
_COLLECTOR = re.compile(
    r"^(gc_collect|_PyGC_|PyGC_|deduce_unreachable|update_refs|subtract_refs|visit_|move_unreachable)"
)
#: Parts of a file's path, each with its cause. The first match counts.
_PLACES = (
    ("/grpc/_cython/", "gRPC"),
    ("/site-packages/grpc", "gRPC"),
    ("/google/_upb/", "protobuf"),
    ("/google/protobuf/", "protobuf"),
    ("/protovalidate/", "protobuf"),
    ("/rocksdict/", "RocksDB"),
    ("/msgspec/", "RocksDB"),
    ("/aiokafka/", "Kafka client"),
    ("/cramjam/", "Kafka client"),
    ("/faust/", "Faust"),
    ("/mode/", "Faust"),
    ("/asyncio/", "event loop"),
    ("/selectors.py", "event loop"),
    ("/_asyncio.", "event loop"),
    ("/select.", "event loop"),
    ("/concurrent/futures/", "event loop"),
    ("/site-packages/", "other"),
)
#: Folders of this repository. They come first: eventlog/faust is ours.
_OURS = (
    ("/eventlog/", "our kernel"),
    ("/chassis/", "our services"),
    ("/services/", "our services"),
    ("/shared_kernel/", "our services"),
    ("/simulators/", "our services"),
    ("/gen/groupbuy/", "protobuf"),
)
#: Functions of the C library and of the interpreter in which a thread waits; near the leaf, as frames may follow them.
_WAITS = re.compile(
    r"^(epoll_(p)?wait|pthread_cond_|sem_(clock|timed)?wait|do_futex_wait|PyThread_acquire_lock|clock_nanosleep)"
)
_WAIT_FRAMES = 4
_FRAME = re.compile(r"^(?P<function>.*) \((?P<file>[^()]*)\)$")
#: First words of the names that native threads give themselves.
_THREADS = (("rocksdb", "RocksDB"), ("grpc", "gRPC"), ("event_engine", "gRPC"), ("ee_", "gRPC"), ("timer", "gRPC"))


def cause_of(frames: Iterable[str], root: str) -> str:
    """The cause of one stack, root first. `root` is the path of this repository."""
    for frame in reversed(list(frames)):
        found = _FRAME.match(frame)
        if found is None:
            continue
        file = found["file"]
        if "python" in file.rpartition("/")[2] and _COLLECTOR.match(found["function"]):
            return "garbage collector"
        if file.startswith(root) and "/site-packages/" not in file:
            within = file[len(root) :]
            for place, cause in _OURS:
                if within.startswith(place):
                    return cause
        for place, cause in _PLACES:
            if place in file:
                return cause
    return "other"


def waits(frames: Sequence[str]) -> bool:
    """Whether a stack ends in a wait."""
    return any(_WAITS.match(frame) for frame in frames[-_WAIT_FRAMES:])


def shares(text: str, root: str) -> dict[str, float]:
    """The share of each cause in samples of py-spy's raw format: frames separated by semicolons, and a count."""
    counts: Counter[str] = Counter()
    for line in text.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        if not waits(frames):
            counts[cause_of(frames, root)] += int(count)
    total = counts.total()
    return {cause: counts[cause] / total for cause in CAUSES} if total else {}


def cause_of_thread(name: str) -> str | None:
    """The cause of a thread by its name; None for a thread of the interpreter, whose stacks are sampled."""
    for first, cause in _THREADS:
        if name.startswith(first):
            return cause
    return None
