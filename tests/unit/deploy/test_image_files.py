"""The parts of the image's build that run without a container: the SBOM, the health check, and what the build sees."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
IMAGE = ROOT / "deploy" / "image"
NOW = datetime(2026, 11, 30, tzinfo=UTC)
PROJECT: dict[str, Any] = {
    "name": "groupbuy-settlement",
    "version": "1.2.3",
    "description": "words",
    "dependencies": ["grpcio>=1.76"],
}
LOCK = f"""grpcio==1.85.1 \\
    --hash=sha256:{"a" * 64}
colorama==0.4.6 ; sys_platform == 'win32' \\
    --hash=sha256:{"b" * 64}
"""
STATUS = """Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2:2.36-9+deb12u14

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1
"""


@pytest.fixture(scope="module")
def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("image_sbom", IMAGE / "image_sbom.py")
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def test_the_sbom_lists_what_is_installed_and_nothing_else(module: ModuleType) -> None:
    installed = {"groupbuy-settlement": "1.2.3", "groupbuy-client": "1.2.3", "grpcio": "1.85.1"}
    document = module.image_sbom(STATUS, LOCK, PROJECT, installed, NOW)
    by_name = {one["name"]: one for one in document["components"]}
    assert by_name.keys() == {"groupbuy-client", "grpcio", "libc6"}
    assert by_name["grpcio"]["hashes"] == [{"alg": "SHA-256", "content": "a" * 64}]
    assert by_name["libc6"]["purl"] == "pkg:deb/debian/libc6@2%3A2.36-9%2Bdeb12u14?arch=amd64"
    assert document["metadata"]["component"]["type"] == "container"


@pytest.mark.parametrize("installed", [{"grpcio": "1.85.2"}, {"leftover": "1"}])
def test_a_package_that_is_not_of_the_lock_fails_the_build(module: ModuleType, installed: dict[str, str]) -> None:
    with pytest.raises(SystemExit, match=r"is not of requirements\.lock"):
        module.image_sbom(STATUS, LOCK, PROJECT, installed, NOW)


@contextmanager
def server(status: int) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/ready" else 404)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    http = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{http.server_port}"
    finally:
        http.shutdown()
        http.server_close()


def probe(target: str) -> int:
    command = (sys.executable, "-IS", str(IMAGE / "probe.py"), target)
    return subprocess.run(command, capture_output=True, check=False, timeout=20).returncode


def test_the_health_check_passes_only_on_200() -> None:
    with server(200) as ready:
        assert probe(f"{ready}/ready") == 0
        assert probe(f"{ready}/other") == 1
        assert probe(ready) == 0
    with server(503) as unready:
        assert probe(f"{unready}/ready") == 1
    assert probe(f"{unready}/ready") == 1
    assert probe(unready) == 1


def test_the_build_sees_all_that_the_wheels_have_and_no_tests() -> None:
    lines = (IMAGE / "Containerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    seen = {line[1:].split("/")[0] for line in lines if line.startswith("!")}
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"][
        "wheel"
    ]
    client = tomllib.loads((ROOT / "distributions/client/pyproject.toml").read_text(encoding="utf-8"))
    forced = client["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    wanted = {name.split("/")[0] for name in wheel["only-include"]}
    wanted |= {path.removeprefix("../../").split("/")[0] for path in forced}
    assert lines[1] == "**"
    assert wanted <= seen
    assert not {"tests", "bench", "docs", "examples", ".venv", ".git", ".run"} & seen


def test_the_broker_image_has_both_commands_that_its_start_uses() -> None:
    start = (ROOT / "deploy/compose/kafka/start.sh").read_text(encoding="utf-8")
    file = (IMAGE / "Containerfile.kafka").read_text(encoding="utf-8")
    for command in ("kafka-storage.sh", "kafka-server-start.sh"):
        assert f"/opt/kafka/bin/{command}" in start
        assert command in file
        assert (IMAGE / command).stat().st_mode & 0o111


@pytest.mark.parametrize("script", sorted(ROOT.glob("deploy/**/*.sh")), ids=lambda path: path.name)
def test_scripts_are_valid_and_executable(script: Path) -> None:
    shell = script.read_text(encoding="utf-8").splitlines()[0].removeprefix("#!")
    assert subprocess.run([shell, "-n", str(script)], check=False, timeout=20).returncode == 0
    assert script.stat().st_mode & 0o111


@pytest.mark.parametrize("module", ["tests.compose.images", "tests.compose.run"])
def test_without_podman_a_target_is_skipped_with_one_sentence(module: str, tmp_path: Path) -> None:
    variables = {"PATH": str(tmp_path), "HOME": str(tmp_path), "PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}"}
    command = (sys.executable, "-m", module)
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout).keys() == {"skipped"}
