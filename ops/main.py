"""The command line, `groupbuy-ops`: runs one command and turns what went wrong into a sentence and an exit code.

Whatever goes wrong for a reason a person can mend ends in one sentence on standard error: exit 2 for wrong arguments
and for what is not there, 1 where the answer is no, 130 after Ctrl-C.
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
        # Whoever read our output has enough. Python would complain once more while it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(args: Sequence[str] | None) -> int:
    # Imported only here: it takes long enough for a Ctrl-C.
    import typer
    from google.protobuf.message import DecodeError
    from typer.exceptions import TyperException

    from ops.commands import app
    from ops.errors import OpsError

    # What the Kafka client has to say of its connections is said by our own sentences.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    command = typer.main.get_command(app)
    try:
        code = command.main(args=list(args) if args is not None else None, prog_name=PROGRAM, standalone_mode=False)
    except OpsError as error:
        return _say(str(error), error.exit_code, error.lines)
    except TyperException as error:
        # Wrong arguments; Typer would print a box and the whole usage.
        message = getattr(error, "format_message", error.__str__)().rstrip(".")
        if not message:
            return 2  # no command at all: the help has been printed
        context = getattr(error, "ctx", None)
        called = context.command_path if context is not None else PROGRAM
        return _say(f"{message}; see `{called} --help`", getattr(error, "exit_code", 2))
    except typer.Abort:
        return INTERRUPTED
    except (DecodeError, UnicodeDecodeError) as error:
        # Only a foreign record can't be decoded.
        return _say(f"a record can't be read ({error}): `groupbuy-ops verify` says which, and what to do", 2)
    return code if isinstance(code, int) else 0


def _say(message: str, code: int, lines: Sequence[str] = ()) -> int:
    from ops.printing import say

    say(f"{PROGRAM}: {message}")
    for line in lines:
        say(line)
    return code


if __name__ == "__main__":
    sys.exit(main())
