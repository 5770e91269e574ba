"""What another repository gets when it installs this project: the client, typed and whole, without the source tree."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
USES = """
import sys
sys.path.insert(0, sys.argv[1])
import groupbuy_client
from groupbuy.orders.v1 import orders_pb2
assert all(module.__file__.startswith(sys.argv[1]) for module in (groupbuy_client, orders_pb2))
with groupbuy_client.Client("127.0.0.1:1", timeout_s=0.2) as client:
    try:
        client.get_group("groups/x")
    except (groupbuy_client.Unavailable, groupbuy_client.TimedOut):
        print("used")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    into = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(into)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (made,) = into.glob("*.whl")
    return made


def test_the_wheel_has_the_client_with_its_types_and_its_service_config(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "groupbuy_client/py.typed",
        "groupbuy_client/service_config.json",
        "groupbuy/orders/v1/orders_pb2.pyi",
        "groupbuy/py.typed",
    } <= names
    assert not any(name.startswith(("tests/", "gen/")) for name in names)


def test_the_client_works_from_the_wheel_alone(wheel: Path, tmp_path: Path) -> None:
    # Unpacked as pip would: its service config is read from beside it.
    zipfile.ZipFile(wheel).extractall(tmp_path)
    command = [sys.executable, "-c", USES, str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "used\n", done.stderr
