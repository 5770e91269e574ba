"""All commands of the command line. Each group of commands is a module of its own.

Every command takes `json: Json = False` and prints through `ops.terminal.output.Output`. The docstring of a command has
five paragraphs: a summary of one line; `Reads …`; `Changes …`; `Exit codes: 0 …, 1 …, 2 …`; `Example: groupbuy-ops …`.
Further paragraphs may follow the summary. A test compares each command with this, and docs/commands.md is generated
from them.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Annotated

import typer

from ops import audit_command as audit
from ops import metrics_command
from ops.broker import acls, campaigns, dlq, offsets, skip, topics
from ops.export import command as export
from ops.ledger import command as ledger
from ops.log import invites, show, tail, verify
from ops.log.rerun import replay, what_if
from ops.reconcile import command as reconcile
from ops.repair import command as repair
from ops.stock import command as stock
from ops.terminal.output import Output
from ops.trace import command as trace
from ops.watch import command as watch
from ops.watch import lag_command, stuck_command

DISTRIBUTION = "groupbuy-settlement"

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Inspects and operates a group-buying deployment: topics, history, audit and ledger.",
    epilog="Exit codes: 0 done, 1 something that was checked does not hold, 2 cannot run, 70 a defect, 130 Ctrl-C.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        Output().line(installed_version())
        raise typer.Exit


def installed_version() -> str:
    """The version of the installed distribution."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "unknown (not installed)"


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options before the command."""


app.add_typer(topics.app, name="topics")
app.add_typer(acls.app, name="acls")
app.command("tail")(tail.tail)
app.add_typer(show.app, name="show")
app.command("invites")(invites.invites)
app.add_typer(dlq.app, name="dlq")
app.add_typer(offsets.app, name="offsets")
app.add_typer(campaigns.app, name="campaigns")
app.command("verify")(verify.verify)
app.command("skip")(skip.skip)
app.command("audit")(audit.audit)
app.add_typer(ledger.app, name="ledger")
app.command("reconcile")(reconcile.reconcile)
app.add_typer(repair.app, name="repair")
app.command("stock")(stock.stock)
app.command("replay")(replay.replay)
app.command("what-if")(what_if.what_if)
app.command("trace")(trace.trace)
app.command("watch")(watch.watch)
app.command("lag")(lag_command.lag)
app.command("stuck")(stuck_command.stuck)
app.command("metrics")(metrics_command.metrics)
app.add_typer(export.app, name="export")
if find_spec("devstack") is not None:
    # The images have neither the local stack nor the demo, which starts one.
    from ops.demo import command as demo

    app.command("demo")(demo.demo)
