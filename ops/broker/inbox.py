"""`inbox`: `inbox skip` is the older name of `skip`; see ops/broker/skip.py."""

from __future__ import annotations

import typer

from ops.broker.skip import skip

app = typer.Typer(no_args_is_help=True, help="Inboxes: records that stop a partition.")


@app.callback()
def _commands() -> None:
    """Keeps `skip` a command of its own: Typer would merge the only one."""


app.command()(skip)
