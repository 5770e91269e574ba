"""bench-costs: stacks to causes, threads of this process, and records per order."""

from __future__ import annotations

import os
import threading
import time

import pytest

from bench.costs.__main__ import split, table
from bench.costs.causes import CAUSES, cause_of, shares
from bench.costs.records import Size, per_order
from bench.costs.threads import cpu_by_thread, spent

ROOT = "/home/me/shop"
PACKAGES = f"{ROOT}/.venv/lib/python3.11/site-packages"
LOOP = "run_forever (/usr/lib/python3.11/asyncio/base_events.py)"
HANDLE = f"handle ({ROOT}/eventlog/processors/decider.py)"


@pytest.mark.parametrize(
    ("frames", "cause"),
    [
        ([LOOP, HANDLE], "our kernel"),
        ([LOOP, HANDLE, f"decode ({ROOT}/services/groups/domain/command.py)"], "our services"),
        ([LOOP, HANDLE, f"_upb_Decode ({PACKAGES}/google/_upb/_message.abi3.so)"], "protobuf"),
        ([LOOP, HANDLE, f"parse ({PACKAGES}/google/_upb/_message.abi3.so)", "malloc (/usr/lib/libc.so.6)"], "protobuf"),
        ([LOOP, HANDLE, "malloc (/usr/lib/libc.so.6)"], "our kernel"),
        ([LOOP, f"poll ({PACKAGES}/grpc/_cython/cygrpc.cpython-311-x86_64-linux-gnu.so)"], "gRPC"),
        ([LOOP, f"send ({PACKAGES}/aiokafka/conn.py)", "write (/usr/lib/python3.11/asyncio/streams.py)"], "event loop"),
        ([LOOP, f"send ({PACKAGES}/aiokafka/conn.py)", "dumps (/usr/lib/python3.11/json/__init__.py)"], "Kafka client"),
        ([LOOP, f"on_message ({PACKAGES}/faust/streams.py)"], "Faust"),
        ([LOOP, f"put ({PACKAGES}/rocksdict/rocksdict.abi3.so)"], "RocksDB"),
        ([LOOP, HANDLE, "gc_collect_main (/usr/lib/libpython3.11.so.1.0)"], "garbage collector"),
        ([LOOP, HANDLE, f"log ({PACKAGES}/structlog/stdlib.py)"], "other"),
        ([LOOP, f"f ({ROOT}/gen/groupbuy/orders/v1/orders_pb2_grpc.py)"], "protobuf"),
        (["0x7f (/usr/lib/libc.so.6)"], "other"),
    ],
)
def test_the_frame_nearest_to_the_leaf_that_belongs_to_somebody_counts(frames: list[str], cause: str) -> None:
    assert cause in CAUSES
    assert cause_of(frames, ROOT) == cause


def test_shares_add_up_to_one_and_leave_waiting_threads_out() -> None:
    idle = f"{LOOP};epoll_wait (libc.so.6) 9\n{HANDLE};pthread_cond_timedwait (libc.so.6);0x7f (libc.so.6) 7\n"
    text = f"{LOOP};{HANDLE} 3\n{idle}{LOOP} 1\n"
    found = shares(text, ROOT)
    assert found["our kernel"] == 0.75
    assert found["event loop"] == 0.25
    assert sum(found.values()) == 1
    assert shares("", ROOT) == {}


def test_named_native_threads_count_for_their_library_and_the_rest_is_shared() -> None:
    found = split({"python": 8.0, "rocksdb:low": 1.0, "event_engine": 2.0}, {"our kernel": 0.75, "gRPC": 0.25})
    assert found == {"our kernel": 6.0, "RocksDB": 1.0, "gRPC": 4.0}
    assert split({"GC Thread": 1.0, "kafka": 2.0}, None) == {"broker": 3.0}


def test_the_table_has_a_sum_of_each_process_and_cause() -> None:
    lines = table({"groups": {"gRPC": 10.0, "RocksDB": 5.0}, "orders": {"gRPC": 1.0}}, "costs").splitlines()
    assert lines[1].split()[-1] == "15"
    assert lines[-1].split()[:2] == ["all", "11"]
    assert lines[-1].split()[-1] == "16"


def test_the_threads_of_a_process_have_its_cpu_time() -> None:
    before = cpu_by_thread(os.getpid())
    ended = threading.Event()

    def work() -> None:
        until = time.thread_time() + 0.2
        while time.thread_time() < until:
            pass
        ended.set()

    threading.Thread(target=work).start()
    assert ended.wait(60)
    assert 0.15 <= sum(spent(before, cpu_by_thread(os.getpid())).values()) < 60


def test_records_and_bytes_are_those_of_one_order() -> None:
    before = {"facts": Size(100, 1_000), "quiet": Size(5, 50)}
    after = {"facts": Size(140, 5_000), "quiet": Size(5, 50), "log": Size(60, 6_000)}
    assert per_order(before, after, 20) == {"log": (3.0, 300.0), "facts": (2.0, 200.0)}
