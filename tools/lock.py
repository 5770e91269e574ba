"""`make lock`: writes requirements.lock and requirements-dev.lock from pyproject.toml, with hashes, for every platform.

A version stays as it is while the ranges allow it; `--upgrade` takes the newest. groupbuy-client is left out: it is
installed from distributions/client.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: Each lock and the dependency group that it has in addition.
LOCKS = {"requirements.lock": (), "requirements-dev.lock": ("--group", "dev")}
OPTIONS = (
    "--universal",
    "--python-version=3.11",
    "--generate-hashes",
    "--no-header",
    "--no-annotate",
    "--no-emit-package=groupbuy-client",
    # The images export traces.
    "--extra=tracing",
)


def main(arguments: list[str] | None = None) -> int:
    """Writes both locks. Returns uv's exit code."""
    parser = argparse.ArgumentParser(description="Locks the dependencies of this repository.")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that the ranges allow")
    upgrade = ("--upgrade",) if parser.parse_args(arguments).upgrade else ()
    for lock, group in LOCKS.items():
        command = ["-m", "uv", "pip", "compile", "--quiet", *OPTIONS, *upgrade, *group, "pyproject.toml", "-o", lock]
        code = subprocess.run([sys.executable, *command], cwd=ROOT, stdout=subprocess.DEVNULL, check=False).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
