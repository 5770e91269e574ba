"""The command line `groupbuy-ops`: runs one command and reports an error as one sentence and an exit code.

The sentence goes to standard error. Exit codes: 1 if a check fails, 2 for wrong arguments and missing or unreachable
parts, 130 after Ctrl-C.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

PROGRAM = "groupbuy-ops"
INTERRUPTED = 130


def main(args: Sequence[str] | None = None) -> int:
    """Runs one command. Returns the exit code."""
    try:
        return _run(args)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has closed the pipe. Without this, Python reports the error again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(args: Sequence[str] | None) -> int:
    # Imported here, because the import is slow enough to be interrupted by Ctrl-C.
    import typer
    from google.protobuf.message import DecodeError
    from typer.exceptions import TyperException

    from ops.commands import app
    from ops.errors import OpsError

    # Our own sentences report connection errors.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    command = typer.main.get_command(app)
    try:
        code = command.main(args=list(args) if args is not None else None, prog_name=PROGRAM, standalone_mode=False)
    except OpsError as error:
        return _say(str(error), error.exit_code, error.lines)
    except TyperException as error:
        # Wrong arguments: one sentence in place of Typer's box with the usage.
        message = getattr(error, "format_message", error.__str__)().rstrip(".")
        if not message:
            return 2  # no command: Typer has printed the help
        context = getattr(error, "ctx", None)
        called = context.command_path if context is not None else PROGRAM
        return _say(f"{message}; see `{called} --help`", getattr(error, "exit_code", 2))
    except typer.Abort:
        return INTERRUPTED
    except (DecodeError, UnicodeDecodeError) as error:
        # Every record of ours can be decoded.
        return _say(f"a record can't be decoded ({error}): `groupbuy-ops verify` reports the record and the way out", 2)
    return code if isinstance(code, int) else 0


def _say(message: str, code: int, lines: Sequence[str] = ()) -> int:
    from ops.printing import say

    say(f"{PROGRAM}: {message}")
    for line in lines:
        say(line)
    return code


if __name__ == "__main__":
    sys.exit(main())
