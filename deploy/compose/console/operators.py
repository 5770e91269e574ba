"""The one-shot job of compose.console.yaml: makes an operator with a password, once, and prints both.

`docker compose logs operators` shows them again. The file is in the job's volume, which the console reads.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from groupbuy_settlement.__main__ import enter_runtime

enter_runtime()

from console.web.passwords import line  # noqa: E402 - a part of the runtime

NAME, FILE = "operator", Path("/state/operators.txt")


def main() -> None:
    """Writes the file unless it exists."""
    if FILE.exists():
        print(f"{FILE.name} exists; the first log of this job has the password")
        return
    password = secrets.token_urlsafe(12)
    beside = FILE.with_suffix(".new")
    beside.touch(mode=0o400)
    beside.write_text(line(NAME, password) + "\n", encoding="utf-8")
    beside.replace(FILE)
    print(f"name {NAME}, password {password}")


if __name__ == "__main__":
    main()
