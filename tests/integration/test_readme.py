"""The README's commands and Python, taken from the file, run as printed.

buf comes with the development environment. grpcurl is taken from PATH; without it, buf sends its commands, and the test
reports that.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.integration.shop import Shop

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
SECTION = re.compile(r"^## The API by example$(.*?)^## ", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    """The code blocks of a section of the README."""
    section = SECTION.search((ROOT / "README.md").read_text(encoding="utf-8"))
    assert section is not None
    return re.findall(rf"^```{language}\n(.*?)^```$", section[1], re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """The calls. `make up` and its variables come from the fixture; tests/first_hour runs them as they stand."""
    found = [command for block in blocks("sh") for command in re.split(r"\n\n(?=grpcurl|buf)", block.strip())]
    return [command for command in found if command.startswith(("grpcurl", "buf"))]


def environment(shop: Shop) -> dict[str, str]:
    """The addresses that the README lets the reader set."""
    ends = shop.stack.endpoints
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "ORDERS_AT": ends["orders"], "GROUPS_AT": ends["groups"], "PATH": path}


def by_buf(command: str) -> str:
    """A grpcurl command, translated for buf."""
    words = shlex.split(command)
    assert words[:5] == ["grpcurl", "-plaintext", "-max-time", "5", "-d"]
    data, target, method = words[5:]
    flags = "--timeout 5s --protocol grpc --http2-prior-knowledge"
    return f"buf curl {flags} -d {shlex.quote(data)} http://{target}/{method}"


def answers(text: str) -> list[dict[str, Any]]:
    """All JSON objects in a command's output."""
    found, decoder = [], json.JSONDecoder(object_hook=_snake)
    while text := text.strip():
        one, end = decoder.raw_decode(text)
        found.append(one)
        text = text[end:]
    return found


def _snake(one: dict[str, Any]) -> dict[str, Any]:
    return {re.sub(r"[A-Z]", lambda letter: f"_{letter[0].lower()}", name): value for name, value in one.items()}


def test_the_commands_of_the_readme_work(shop: Shop, record_property: Callable[[str, object], None]) -> None:
    grpcurl = shutil.which("grpcurl")
    record_property("grpcurl", grpcurl or "not installed: its commands were sent by buf")
    said = []
    for command in commands():
        shown = command if grpcurl or not command.startswith("grpcurl") else by_buf(command)
        done = subprocess.run(
            ["sh", "-ec", shown], env=environment(shop), capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, f"{shown}\n{done.stdout}\n{done.stderr}"
        said.append(answers(done.stdout))
    ((campaign,), (placed,), (batch,), watched) = said
    assert campaign["name"] == "campaigns/mug"
    assert placed["order"]["state"] in {"ORDER_STATE_RESERVED", "ORDER_STATE_CONFIRMED"}
    assert [result["order"]["group"] for result in batch["results"]] == [placed["order"]["group"]] * 2
    assert (watched[-1]["state"], watched[-1]["settled"]) == ("GROUP_STATE_COMPLETED", True)
    assert watched[-1]["unit_price_minor"] == "7900"
    assert [member["state"] for member in watched[-1]["members"]] == ["MEMBER_STATE_SETTLED"] * 3


def test_the_python_of_the_readme_works(shop: Shop) -> None:
    (block,) = blocks("python")
    done = subprocess.run(
        [sys.executable, "-c", block], env=environment(shop), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "ORDER_STATE_SETTLED 7900"
