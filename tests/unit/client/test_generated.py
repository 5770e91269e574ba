"""The synchronous client and the retry policy are written once, and the client needs few packages."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from chassis.rpc.client_config import channel_options
from chassis.rpc.server import OPTIONS as SERVER_OPTIONS
from groupbuy_client.transport import OPTIONS, SERVICE_CONFIG
from groupbuy_testing.running import OPTIONS as plugin_options
from tools import generate_client

#: Packages that groupbuy_client may import besides the standard library; google is protobuf and its common messages.
PACKAGES = {"google", "groupbuy", "groupbuy_client", "grpc", "uuid_utils"}


def test_the_generated_files_are_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate_client.main(["--check"]) == 0, capsys.readouterr().err


def test_a_changed_source_makes_the_generated_file_out_of_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = (generate_client.CLIENT / "aio.py").read_text(encoding="utf-8")
    (tmp_path / "aio.py").write_text(source, encoding="utf-8")
    monkeypatch.setattr(generate_client, "CLIENT", tmp_path)
    assert generate_client.main([]) == 0
    assert generate_client.main(["--check"]) == 0
    (tmp_path / "aio.py").write_text(source.replace("get_order", "read_order"), encoding="utf-8")
    assert generate_client.main(["--check"]) == 1
    assert capsys.readouterr().err.startswith("sync.py is out of date")


@pytest.mark.parametrize("service", ["orders", "groups", "payments"])
def test_the_client_has_the_retry_policy_of_the_contract(service: str) -> None:
    def policies(config: dict[str, Any]) -> dict[tuple[str, str], Any]:
        return {
            (name["service"], name["method"]): {key: value for key, value in entry.items() if key != "name"}
            for entry in config["methodConfig"]
            for name in entry["name"]
        }

    client = json.loads(SERVICE_CONFIG)
    contract = json.loads((generate_client.SERVICE_CONFIGS / f"{service}.json").read_text(encoding="utf-8"))
    assert policies(contract).items() <= policies(client).items()
    assert set(contract) == {"methodConfig"}


def test_servers_permit_the_pings_of_the_client() -> None:
    permitted_ms = dict(SERVER_OPTIONS)["grpc.http2.min_ping_interval_without_data_ms"]
    assert int(dict(OPTIONS)["grpc.keepalive_time_ms"]) > permitted_ms


def test_the_client_and_the_test_plugin_have_the_channel_options_of_the_chassis() -> None:
    ours = dict(channel_options.options())
    assert dict(plugin_options) == ours
    client = dict(OPTIONS)
    # Clients are many, and reconnect to a service that is down less often.
    assert client.pop("grpc.max_reconnect_backoff_ms") == 4 * int(ours.pop("grpc.max_reconnect_backoff_ms"))
    assert client.pop("grpc.service_config")
    assert client == ours


def test_the_client_imports_few_packages() -> None:
    imported: set[str] = set()
    for path in generate_client.CLIENT.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add((node.module or "").partition(".")[0])
    assert imported - sys.stdlib_module_names <= PACKAGES
