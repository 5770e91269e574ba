"""Writes the generated files of groupbuy_client; `--check` only reports those that are out of date.

sync.py is aio.py without its async words: write the client in aio.py alone. service_config.json is the service configs
of protos/service_config in one file, so the retry policy is written once, in the module that makes those.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tools import generated_files

ROOT = Path(__file__).resolve().parent.parent
CLIENT = ROOT / "groupbuy_client"
SERVICE_CONFIGS = ROOT / "protos" / "service_config"
HEADER = "# Generated from aio.py by tools/generate_client.py; do not edit.\n"
#: Applied in this order to the text of aio.py.
REPLACEMENTS = (
    ("on an event loop. Use a client only on the loop that first used it.", "without an event loop. Thread-safe."),
    ("async with", "with"),
    ("async for", "for"),
    ("async def", "def"),
    ("await ", ""),
    ("AsyncClient", "Client"),
    ("AsyncIterator", "Iterator"),
    ("__aenter__", "__enter__"),
    ("__aexit__", "__exit__"),
    ("asyncio", "time"),
    ("grpc.aio.", "grpc."),
    ("close(grace=None)", "close()"),
)
#: Spread the calls over all addresses of a target. The contract leaves the choice to other clients.
LOAD_BALANCING: list[dict[str, Any]] = [{"round_robin": {}}]


def sync_client(source: str) -> str:
    """The synchronous client, from the text of the asynchronous one."""
    for word, replacement in REPLACEMENTS:
        if word not in source:
            raise ValueError(f"aio.py does not contain {word!r} any more: correct the replacements")
        source = source.replace(word, replacement)
    # Shorter words change the order of imports and the breaks of lines; a loop that yields becomes `yield from`.
    return _ruff("format", _ruff("check", HEADER + source, "--fix-only", "--unsafe-fixes", "--select=I,UP028"))


def service_config(contract: Iterable[dict[str, Any]]) -> str:
    """One service config for all services, from those of each. Methods with equal policies share an entry."""
    names: dict[str, list[dict[str, str]]] = {}
    for config in contract:
        for entry in config["methodConfig"]:
            policy = json.dumps({key: value for key, value in entry.items() if key != "name"})
            names.setdefault(policy, []).extend(entry["name"])
    merged = {
        "loadBalancingConfig": LOAD_BALANCING,
        "methodConfig": [{"name": methods, **json.loads(policy)} for policy, methods in names.items()],
    }
    return json.dumps(merged, indent=2) + "\n"


def generated() -> dict[Path, str]:
    """Each generated file and its text."""
    contract = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(SERVICE_CONFIGS.glob("*.json"))]
    return {
        CLIENT / "sync.py": sync_client((CLIENT / "aio.py").read_text(encoding="utf-8")),
        CLIENT / "service_config.json": service_config(contract),
    }


def _ruff(command: str, text: str, *options: str) -> str:
    run = [sys.executable, "-m", "ruff", command, "--quiet", "--stdin-filename=groupbuy_client/sync.py", *options, "-"]
    return subprocess.run(run, input=text, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout


def main(arguments: list[str] | None = None) -> int:
    """Writes or checks. Returns the exit code."""
    return generated_files.run(
        "Writes the generated files of groupbuy_client.", generated, "python -m tools.generate_client", arguments
    )


if __name__ == "__main__":
    raise SystemExit(main())
