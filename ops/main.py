"""The command line `groupbuy-ops`: runs one command and reports an error as one sentence and an exit code.

The sentence goes to standard error. `ops.errors` has the exit codes.
"""

from __future__ import annotations

import errno
import logging
import sys
import traceback
from collections.abc import Sequence

from ops.errors import CANNOT_RUN, INTERRUPTED, INVARIANT, OK
from ops.terminal import streams

PROGRAM = "groupbuy-ops"


def main(args: Sequence[str] | None = None) -> int:
    """Runs one command. Returns the exit code."""
    streams.prepare()
    try:
        code = _run(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has closed the pipe.
        streams.discard()
        code = OK
    except OSError as error:
        # A full disk, a terminal that is gone, or a file that can't be read.
        streams.discard()
        code = _say(_reason(error), CANNOT_RUN)
    except Exception as error:  # noqa: BLE001 - reported, and exit code 1 would say that a check failed
        code = _report(error)
    return code


def _run(args: Sequence[str] | None) -> int:
    # Imported here, because the import is slow enough to be interrupted by Ctrl-C.
    import typer
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
            return CANNOT_RUN  # no command: Typer has printed the help
        context = getattr(error, "ctx", None)
        called = context.command_path if context is not None else PROGRAM
        return _say(f"{message}; see `{called} --help`", getattr(error, "exit_code", CANNOT_RUN))
    except typer.Abort:
        code = INTERRUPTED
    except SystemExit as error:
        # Typer ends so after completion, and with 1 if the reader of our output has closed the pipe.
        if _pipe_closed(error):
            raise BrokenPipeError from None
        code = error.code
    return code if isinstance(code, int) else OK


def _report(error: Exception) -> int:
    from google.protobuf.message import DecodeError

    from eventlog.core.errors import InvariantViolation

    if isinstance(error, DecodeError | UnicodeDecodeError):
        # Every record of ours can be decoded.
        sentence = f"a record can't be decoded ({error}): `groupbuy-ops verify` reports the record and the way out"
        return _say(sentence, CANNOT_RUN)
    if isinstance(error, InvariantViolation):
        return _say(f"an invariant does not hold: {error}", INVARIANT)
    return _say("a defect ended the command:", INVARIANT, "".join(traceback.format_exception(error)).splitlines())


def _pipe_closed(error: SystemExit) -> bool:
    cause = error.__context__
    return isinstance(cause, OSError) and cause.errno == errno.EPIPE


def _reason(error: OSError) -> str:
    what = error.strerror or str(error) or type(error).__name__
    return f"{error.filename}: {what}" if error.filename else f"can't read or write: {what}"


def _say(message: str, code: int, lines: Sequence[str] = ()) -> int:
    from ops.terminal.printing import say

    say(f"{PROGRAM}: {message}")
    for line in lines:
        say(line)
    return code


if __name__ == "__main__":
    sys.exit(main())
