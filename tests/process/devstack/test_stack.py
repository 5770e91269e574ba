"""A stack of tiny commands on a broker that is a socket: start order, record, supervision, clean stop."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.certificates.credentials import Credentials
from devstack.errors import (
    AlreadyRunning,
    BadAddress,
    BadDirectory,
    BrokerFailed,
    Cancelled,
    PortTaken,
    StackFailed,
)
from devstack.stack import Stack
from devstack.supervision import ports
from devstack.supervision.waiting import wait_for
from tests.unit.devstack.fakes import FOR_EVER, alive, broker, plan

SHOP = plan(
    topics="import sys; print(*sys.argv[1:])",
    orders=f"import os; print(os.environ['ENDPOINT'], os.environ['BROKER'], os.getcwd(), flush=True); {FOR_EVER}",
    groups=FOR_EVER,
)


@pytest.fixture
def kafka() -> Iterator[str]:
    with broker() as address:
        yield address


@pytest.fixture
def stack(tmp_path: Path, kafka: str) -> Iterator[Stack]:
    with Stack(tmp_path / "run", kafka=kafka, plan=SHOP) as running:
        yield running


def record(stack: Stack) -> dict[str, object]:
    found = json.loads((stack.run_dir / "stack.json").read_text())
    assert isinstance(found, dict)
    return found


def test_the_record_has_addresses_and_process_ids(stack: Stack, kafka: str) -> None:
    found = record(stack)
    assert found["kafka"] == kafka
    assert found["endpoints"] == stack.endpoints
    assert sorted(stack.endpoints) == ["groups", "orders", "provider"]
    assert found["pids"] == {name: stack.pid(name) for name in ("provider", "orders", "groups")}
    assert found["run_dir"] == str(stack.run_dir)


def test_topics_are_created_before_any_process_starts(stack: Stack, kafka: str) -> None:
    assert stack.log("topics").split() == [kafka, "4"]


def test_each_process_gets_its_address_and_runs_in_the_data_directory(stack: Stack, kafka: str) -> None:
    assert wait_for(lambda: bool(stack.log("orders")), timeout_s=10)
    assert stack.log("orders").split() == [stack.endpoints["orders"], kafka, str(stack.data)]


def test_a_killed_service_is_restarted_and_the_record_is_updated(stack: Stack) -> None:
    first = stack.pid("groups")
    stack.kill("groups")
    assert wait_for(lambda: stack.pid("groups") not in {None, first}, timeout_s=10)
    assert wait_for(lambda: record(stack)["pids"] == {n: stack.pid(n) for n in stack.names}, timeout_s=5)


def test_a_service_killed_without_restart_stays_down_until_it_is_started(stack: Stack) -> None:
    endpoints = dict(stack.endpoints)
    stack.kill("groups", restart=False)
    assert wait_for(lambda: "groups" not in str(record(stack)["pids"]), timeout_s=5)
    with pytest.raises(StackFailed, match="groups did not serve within"):
        stack.wait_serving("groups", timeout=0.3)
    stack.start_service("groups")
    stack.wait_serving("groups", timeout=5)
    assert stack.endpoints == endpoints


def test_a_service_can_be_stopped_and_started(stack: Stack) -> None:
    stack.stop_service("orders")
    assert stack.pid("orders") is None
    stack.start_service("orders")
    stack.wait_serving("orders", timeout=5)


def test_an_unknown_name_fails_with_the_known_ones(stack: Stack) -> None:
    with pytest.raises(StackFailed, match="no 'shop', only provider, orders, groups"):
        stack.kill("shop")


def test_an_external_broker_can_not_be_killed(stack: Stack) -> None:
    with pytest.raises(BrokerFailed, match="is not ours"):
        stack.broker.kill()


def test_a_stop_leaves_no_process_no_data_and_no_record(tmp_path: Path, kafka: str) -> None:
    stack = Stack(tmp_path / "run", kafka=kafka, plan=SHOP, keep_logs=False)
    stack.start()
    pids = [stack.pid(name) for name in stack.names]
    stack.stop()
    stack.stop()
    assert not [pid for pid in pids if pid is None or alive(pid)]
    assert not stack.run_dir.exists()


def test_data_is_kept_on_request(tmp_path: Path, kafka: str) -> None:
    for _ in range(2):
        with Stack(tmp_path / "run", kafka=kafka, plan=SHOP, keep_data=True) as stack:
            (stack.data / "precious").touch()
    assert sorted(path.name for path in stack.data.iterdir()) == ["precious", "secrets.json"]
    assert stack.log("topics").count(kafka) == 2


def test_a_second_stack_in_the_same_directory_is_refused_and_changes_nothing(stack: Stack, kafka: str) -> None:
    before = record(stack)
    with pytest.raises(AlreadyRunning, match=f"running in .* already \\(process {before['supervisor']}\\)"):
        Stack(stack.run_dir, kafka=kafka, plan=SHOP).start()
    assert record(stack) == before
    assert stack.data.is_dir()


def test_a_service_that_can_not_start_fails_the_stack_with_the_end_of_its_log(tmp_path: Path, kafka: str) -> None:
    bad = plan(orders=FOR_EVER, groups="print('GROUPBUY_GROUPS_LISTEN is missing'); raise SystemExit(2)")
    stack = Stack(tmp_path / "run", kafka=kafka, plan=bad, keep_logs=False)
    with pytest.raises(StackFailed, match="groups ended with code 2:\nGROUPBUY_GROUPS_LISTEN is missing"):
        # The process may count as serving for a moment; the failure stays.
        stack.start()
        stack.wait_serving("orders", timeout=5)
        wait_for(lambda: stack.failure() is not None, timeout_s=5)
        stack.wait_serving("orders", timeout=5)
    stack.stop()
    assert "GROUPBUY_GROUPS_LISTEN" in stack.log("groups")
    assert not stack.data.exists()


def test_a_failed_creation_of_topics_fails_the_stack(tmp_path: Path, kafka: str) -> None:
    bad = plan(topics="print('no such broker'); raise SystemExit(1)")
    with pytest.raises(StackFailed, match=r"topics could not be created at .*:\nno such broker"):
        Stack(tmp_path, kafka=kafka, plan=bad).start()


def test_stop_on_another_thread_cancels_a_start(tmp_path: Path, kafka: str) -> None:
    stack = Stack(tmp_path / "run", kafka=kafka, plan=plan(topics=f"print('busy', flush=True); {FOR_EVER}"))
    errors: list[Exception] = []

    def start() -> None:
        try:
            stack.start()
        except Cancelled as error:
            errors.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    assert wait_for(lambda: stack.log_file("topics").exists() and "busy" in stack.log("topics"), timeout_s=10)
    stack.stop()
    thread.join(timeout=5)
    assert len(errors) == 1


def test_shells_read_the_addresses_from_a_file_that_the_stop_removes(stack: Stack, kafka: str) -> None:
    file = stack.run_dir / "stack.env"
    shell = subprocess.run(["sh", "-c", f". '{file}'; echo $KAFKA_AT $ORDERS_AT"], stdout=subprocess.PIPE, check=True)
    assert shell.stdout.decode().split() == [kafka, stack.endpoints["orders"]]
    stack.stop()
    assert not file.exists()


def test_logs_stay_until_the_next_start(tmp_path: Path, kafka: str) -> None:
    stack = Stack(tmp_path / "run", kafka=kafka, plan=plan(orders=f"print('first', flush=True); {FOR_EVER}"))
    with stack:
        assert wait_for(lambda: stack.log("orders") == "first\n", timeout_s=10)
    assert stack.log("orders") == "first\n"
    with Stack(tmp_path / "run", kafka=kafka, plan=SHOP) as stack:
        assert wait_for(lambda: bool(stack.log("orders")), timeout_s=10)
        assert "first" not in stack.log("orders")


def test_fixed_ports_are_the_same_at_each_start(tmp_path: Path, kafka: str) -> None:
    port = ports.free_port()
    ports.release(port)
    for _ in range(2):
        with Stack(tmp_path / "run", kafka=kafka, plan=SHOP, fixed_ports={"orders": port}) as stack:
            assert stack.endpoints["orders"] == f"127.0.0.1:{port}"
            assert stack.endpoints["groups"] != stack.endpoints["orders"]


def test_a_taken_port_is_named_and_nothing_of_the_last_run_is_deleted(tmp_path: Path, kafka: str) -> None:
    log = tmp_path / "logs" / "orders.log"
    log.parent.mkdir()
    log.touch()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(
            PortTaken, match=rf"port {port} for orders can't be used \(another program has it\).*PORTS=free"
        ):
            Stack(tmp_path, kafka=kafka, plan=SHOP, fixed_ports={"orders": port}).start()
    assert log.exists()


def test_a_run_directory_that_can_not_be_written_is_named(tmp_path: Path, kafka: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadDirectory, match=r"file/run can't be used \(Not a directory\)"):
        Stack(tmp_path / "file" / "run", kafka=kafka, plan=SHOP).start()


def test_an_invalid_address_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadAddress, match="must be host:port"):
        Stack(tmp_path, kafka="kafka", plan=SHOP).start()


def test_variables_can_be_added_for_one_process(tmp_path: Path, kafka: str) -> None:
    shop = plan(orders=f"import os; print(os.environ.get('EXTRA'), flush=True); {FOR_EVER}")
    with Stack(tmp_path, kafka=kafka, plan=shop, environment={"orders": {"EXTRA": "yes"}}) as stack:
        assert wait_for(lambda: stack.log("orders") == "yes\n", timeout_s=10)


def test_a_service_starts_with_its_replicas_and_more_can_be_added(tmp_path: Path, kafka: str) -> None:
    with Stack(tmp_path / "run", kafka=kafka, plan=SHOP, replicas={"groups": 3}) as stack:
        assert stack.names == ("provider", "orders", "groups", "groups-1", "groups-2")
        assert stack.add_replica("groups") == "groups-3"
        stack.wait_serving("groups-3", timeout=10)
        replicas = [name for name in stack.names if name.startswith("groups")]
        pids = {stack.pid(name) for name in replicas}
        assert len(pids) == len({stack.endpoints[name] for name in replicas}) == 4
        assert record(stack)["endpoints"] == stack.endpoints
        with pytest.raises(StackFailed, match="can't start another 'provider'"):
            stack.add_replica("provider")
    assert not any(alive(pid) for pid in pids if pid)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_all_files_of_a_stack_are_private(umask: int, tmp_path: Path, kafka: str) -> None:
    writes = f"from pathlib import Path; Path('mine').mkdir(); Path('mine/secret').write_text('x'); {FOR_EVER}"
    before = os.umask(umask)
    try:
        with Stack(tmp_path / "run", kafka=kafka, plan=plan(groups=writes)) as running:
            assert wait_for((running.data / "mine" / "secret").exists, timeout_s=10)
            Credentials(running.data / "credentials")
            found = [running.run_dir, *running.run_dir.rglob("*")]
            assert len(found) > 20
            assert [str(path) for path in found if stat.S_IMODE(path.stat().st_mode) & 0o077] == []
    finally:
        os.umask(before)
