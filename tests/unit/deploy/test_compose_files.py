"""The Compose files are valid in every combination of layers, hardened, bounded, and reachable from this machine only.

Compose itself merges and validates them; nothing is started.
"""

from __future__ import annotations

import json
import re
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from pydantic_settings import BaseSettings

from chassis.lifecycle.variables import unknown_variables
from console.settings import ConsoleSettings
from ops.security import OpsSettings
from services.groups.settings import GroupsSettings
from services.inventory.settings import InventorySettings
from services.orders.settings import OrdersSettings
from services.payments.settings import PaymentsSettings
from simulators.psp.settings import Settings as SimulatorSettings
from tests.compose.engine import compose_command

COMPOSE = Path(__file__).resolve().parents[3] / "deploy" / "compose"
FILES = sorted(COMPOSE.glob("compose*.yaml"))
LAYERS = (
    "compose.observe",
    "compose.tools",
    "compose.console",
    "compose.inventory",
    "compose.secured",
    "compose.replicas",
)
#: Layers whose credentials are in a file of their own, which needs compose.secured too.
WITH_CREDENTIALS = ("compose.observe", "compose.console", "compose.inventory")
SETTINGS: dict[str, type[BaseSettings]] = {
    "orders": OrdersSettings,
    "groups": GroupsSettings,
    "payments": PaymentsSettings,
    "inventory": InventorySettings,
    "console": ConsoleSettings,
    "simulator": SimulatorSettings,
    "ops": OpsSettings,
}
#: Services whose state is that of others, or of none.
STATELESS = {"topics", "acls", "ops", "akhq", "kafka-ui", "redpanda-console", "callers"}


def with_credentials(layers: tuple[str, ...]) -> tuple[str, ...]:
    """The core with some layers, and the credentials of each if they are secured."""
    secured = [f"{one}.secured" for one in layers if one in WITH_CREDENTIALS] if "compose.secured" in layers else []
    return ("compose", *layers, *secured)


def combined() -> list[tuple[str, ...]]:
    """All combinations on top of the core."""
    return [with_credentials(some) for count in range(len(LAYERS) + 1) for some in combinations(LAYERS, count)]


def config(*layers: str) -> dict[str, Any]:
    """The merged files of some layers, with every profile."""
    command = (*compose_command(COMPOSE, layers, "test"), "--profile", "*", "config", "--format", "json")
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    merged: dict[str, Any] = json.loads(done.stdout)
    return merged


@pytest.mark.parametrize("layers", combined(), ids="+".join)
def test_every_combination_of_layers_is_valid_and_hardened(layers: tuple[str, ...]) -> None:
    merged = config(*layers)
    for name, service in merged["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert int(service["mem_limit"]) >= 128 * 2**20, name
        assert service["restart"] in {"unless-stopped", "on-failure", "no"}, name
        assert not service.get("privileged"), name
        for port in service.get("ports", ()):
            assert port["host_ip"] == "127.0.0.1", (name, port)
    published = [port["published"] for one in merged["services"].values() for port in one.get("ports", ())]
    assert len(published) == len(set(published))


def test_no_command_compose_understands_accepts_an_unknown_key(tmp_path: Path) -> None:
    broken = (COMPOSE / "compose.yaml").read_text(encoding="utf-8").replace("stop_grace_period", "stop_grace")
    (tmp_path / "compose.yaml").write_text(broken, encoding="utf-8")
    command = (*compose_command(tmp_path, ("compose",), "test"), "config", "-q")
    assert subprocess.run(command, capture_output=True, check=False, timeout=60).returncode != 0


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_first_line_says_what_a_file_is_not_for(file: Path) -> None:
    assert file.read_text(encoding="utf-8").startswith("# Not for production")


def test_services_are_checked_by_ready_and_get_their_time_to_drain() -> None:
    services = config("compose", "compose.replicas", "compose.inventory", "compose.console")["services"]
    ports = {"orders": 9401, "groups": 9402, "payments": 9403, "inventory": 9404, "console": 9405}
    for name, port in ports.items():
        for each in {name, f"{name}-1"} & services.keys():
            service = services[each]
            assert service["healthcheck"]["test"][-1] == f"127.0.0.1:{port}/ready"
            assert service["stop_grace_period"] == "30s"
            assert service["restart"] == "unless-stopped"
            assert service["read_only"] is True
            assert service["depends_on"]["topics"]["condition"] == "service_completed_successfully"


def test_the_credentials_job_writes_what_the_processes_mount() -> None:
    job = (COMPOSE / "secured" / "credentials.py").read_text(encoding="utf-8")
    folders = {one["target"] for one in config(*with_credentials(LAYERS))["services"]["credentials"]["volumes"]}
    written = set(re.findall(r'^    "([a-z]+)": "[a-z]+",$', job, re.MULTILINE))
    assert {f"/out/{name}" for name in {*written, "kafka", "callers"}} <= folders


def test_a_link_leads_to_the_share_page() -> None:
    services = config("compose", "compose.console")["services"]
    published = {int(one["target"]): one["published"] for one in services["console"]["ports"]}
    listening = services["console"]["environment"]["GROUPBUY_CONSOLE_SHARE_LISTEN"]
    port = published[int(listening.rpartition(":")[2])]
    assert services["groups"]["environment"]["GROUPBUY_GROUPS_LINK_BASE_URL"] == f"http://127.0.0.1:{port}/s/"
    assert services["console"]["environment"]["GROUPBUY_CONSOLE_PUBLIC_URL"] == f"http://127.0.0.1:{port}"


def test_campaigns_with_stock_are_off_without_the_inventory() -> None:
    for layers, on in ((("compose",), False), (("compose", "compose.inventory"), True)):
        services = config(*layers)["services"]
        for name in ("orders", "groups"):
            setting = f"GROUPBUY_{name.upper()}_INVENTORY"
            assert services[name]["environment"].get(setting, "false") == str(on).lower()
        assert ("inventory" in services) is on


def test_replicas_share_neither_name_nor_address_nor_state() -> None:
    services = config("compose", "compose.replicas")["services"]
    for name in ("orders", "groups", "payments"):
        first, second = services[name], services[f"{name}-1"]
        prefix = f"GROUPBUY_{name.upper()}_"
        for variable in ("INSTANCE", "ADVERTISE"):
            assert first["environment"][prefix + variable] != second["environment"][prefix + variable]
        assert second["environment"][f"{prefix}ADVERTISE"].startswith(f"{name}-1:")
        assert first["volumes"][0]["source"] != second["volumes"][0]["source"]
        assert first["volumes"][0]["target"] == second["volumes"][0]["target"] == "/state"


def test_all_that_holds_state_has_a_named_volume() -> None:
    services = config("compose", *LAYERS[:4])["services"]
    for name, service in services.items():
        volumes = {volume["source"] for volume in service.get("volumes", ()) if volume["type"] == "volume"}
        assert bool(volumes) is (name not in STATELESS), name


def test_every_variable_is_a_setting_of_its_process() -> None:
    for layers in (("compose", "compose.replicas"), with_credentials(LAYERS[:-1])):
        for name, service in config(*layers)["services"].items():
            settings = SETTINGS.get(name.removesuffix("-1"), OpsSettings)
            environment = service.get("environment") or {}
            assert not unknown_variables(settings, environment), name
            own = {one for one in environment if one.startswith("GROUPBUY_")}
            prefixes = (settings.model_config["env_prefix"], OpsSettings.model_config["env_prefix"])
            assert all(one.startswith(prefixes) for one in own), name


def test_a_secured_process_gets_only_its_own_credentials() -> None:
    services = config(*with_credentials(LAYERS))["services"]
    for name in ("kafka", "simulator", "orders", "groups", "payments", "inventory", "console", "ops"):
        given = {one["source"] for one in services[name]["volumes"] if one["target"].startswith("/credentials")}
        assert given == {f"credentials-{name}"} | ({"credentials-share"} if name == "console" else set())
    assert all(
        volume["source"] != "authority" or name == "credentials"
        for name, service in services.items()
        for volume in service.get("volumes", ())
    )
    for name in ("orders", "groups", "payments", "inventory", "console"):
        assert services[name]["environment"][f"GROUPBUY_{name.upper()}_INSECURE"] == "false"
        assert {"acls", "topics", "kafka"} <= services[name]["depends_on"].keys()


def test_the_broker_is_of_one_digest_and_forgets_nothing() -> None:
    image = config("compose")["services"]["kafka"]["image"]
    assert "@sha256:" in image
    settings = (COMPOSE / "kafka" / "server.properties").read_text(encoding="utf-8").splitlines()
    assert {"delete.topic.enable=false", "auto.create.topics.enable=false", "log.retention.hours=-1"} <= {*settings}
    assert "offsets.retention.minutes=5256000" in settings


def test_mounted_files_exist() -> None:
    services = config(*with_credentials(LAYERS[:-1]))["services"]
    for name, service in services.items():
        for volume in service.get("volumes", ()):
            if volume["type"] == "bind":
                assert Path(volume["source"]).exists(), (name, volume["source"])


def test_targets_of_prometheus_are_services_of_the_files() -> None:
    services = config("compose", "compose.observe")["services"]
    for file in (COMPOSE / "observe" / "targets").glob("*.json"):
        (targets,) = json.loads(file.read_text(encoding="utf-8"))
        for target in targets["targets"]:
            name, _, port = target.partition(":")
            assert name in services
            if name in SETTINGS:
                listening = services[name]["environment"][f"GROUPBUY_{name.upper()}_METRICS_LISTEN"]
                assert listening.endswith(f":{port}")
