"""The command line, `groupbuy-ops`. Each group of commands is a module of its own; this one only puts them together.

Whatever goes wrong for a reason a person can mend ends in one sentence on standard error: exit 2 for wrong arguments
and for what is not there, 1 where the answer is no, 130 after Ctrl-C.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

import typer
from typer.exceptions import TyperException

from ops import dlq, replay, show, tail, topics
from ops.audit import command as audit
from ops.demo import command as demo
from ops.errors import OpsError

PROGRAM = "groupbuy-ops"
INTERRUPTED = 130

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    help="Looks after group buying: its topics, its history, its books.",
)
app.add_typer(topics.app, name="topics")
app.command("tail")(tail.tail)
app.add_typer(show.app, name="show")
app.add_typer(dlq.app, name="dlq")
app.command("audit")(audit.audit)
app.command("replay")(replay.replay)
app.command("demo")(demo.demo)


def main(args: Sequence[str] | None = None) -> int:
    """Runs one command. Returns the exit code."""
    # What the Kafka client has to say of its connections is said by our own sentences.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    command = typer.main.get_command(app)
    try:
        code = command.main(args=list(args) if args is not None else None, prog_name=PROGRAM, standalone_mode=False)
    except OpsError as error:
        return _say(str(error), error.exit_code)
    except TyperException as error:
        # Wrong arguments; Typer would print a box and the whole usage.
        message = getattr(error, "format_message", error.__str__)().rstrip(".")
        return _say(f"{message}; see `{_called(error)} --help`", getattr(error, "exit_code", 2))
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has enough. Python would complain once more while it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code if isinstance(code, int) else 0


def _called(error: TyperException) -> str:
    context = getattr(error, "ctx", None)
    return context.command_path if context is not None else PROGRAM


def _say(message: str, code: int) -> int:
    sys.stderr.write(f"{PROGRAM}: {message}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
