"""All commands of the command line. Each group of commands is a module of its own."""

from __future__ import annotations

import typer

from ops import audit_command as audit
from ops.broker import acls, campaigns, dlq, offsets, skip, topics
from ops.demo import command as demo
from ops.ledger import command as ledger
from ops.log import invites, replay, show, tail, verify, what_if
from ops.reconcile import command as reconcile

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    help="Operates group buying: topics, history, audit and ledger.",
)
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
app.command("replay")(replay.replay)
app.command("what-if")(what_if.what_if)
app.command("demo")(demo.demo)
