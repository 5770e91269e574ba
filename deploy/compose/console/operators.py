"""The one-shot job of compose.console.yaml: makes an operator with a password, once, and prints both.

`docker compose logs operators` shows them again. The file is in the job's volume, which the console reads.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from groupbuy_settlement.__main__ import enter_runtime

enter_runtime()

from console.web.passwords import line  # noqa: E402 - a part of the runtime

NAME, FILE = "operator", Path("/operators/operators.txt")
#: User id of the image.
GROUPBUY = 65532


def main() -> None:
    """Writes the file unless it exists."""
    if FILE.exists():
        print(f"{FILE.name} exists; the first log of this job has the password")
        return
    password = secrets.token_urlsafe(12)
    beside = FILE.with_suffix(".new")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "w", encoding="utf-8") as file:
        file.write(line(NAME, password) + "\n")
    os.chown(beside, GROUPBUY, GROUPBUY)
    beside.replace(FILE)
    print(f"name {NAME}, password {password}")


if __name__ == "__main__":
    main()
