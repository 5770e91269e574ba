"""`show`: the history of one group or order, decision by decision."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer
from rich.text import Text

from ops.broker.connection import at_broker
from ops.errors import cannot_run
from ops.log.history import WHO, Line, history, lines
from ops.log.rendering.anonymous import anonymous as without_customers
from ops.log.rendering.decode import as_object
from ops.terminal.output import Json, Output
from ops.terminal.printing import printable
from ops.where import Kafka, broker

app = typer.Typer(no_args_is_help=True, help="Prints the history of a group or an order.")

_STYLES = {"order": "cyan", "group": "green", "payments": "yellow"}

Anonymous = Annotated[
    bool,
    typer.Option("--anonymous", help="Print `customer 1` … in place of ids, and no other personal data."),
]


@app.command()
def group(
    name: Annotated[str, typer.Argument(help="groups/{group}")],
    kafka: Kafka = None,
    anonymous: Anonymous = False,
    json: Json = False,
) -> None:
    """Prints a group's orders, decisions and payments.

    Reads the group's partition of the order facts and of both decision logs.

    Changes nothing.

    Exit codes: 0 done, 2 cannot run or there is no such group.

    Example: groupbuy-ops show group groups/5d7c9f3e-0000-4000-8000-000000000001
    """
    _show(broker(kafka), group_key(name), None, Output(json), anonymous=anonymous)


@app.command()
def order(
    name: Annotated[str, typer.Argument(help="groups/{group}/orders/{order}")],
    kafka: Kafka = None,
    anonymous: Anonymous = False,
    json: Json = False,
) -> None:
    """Prints the history of an order: its part of the group's history.

    Reads the group's partition of the order facts and of both decision logs.

    Changes nothing.

    Exit codes: 0 done, 2 cannot run or there is no such order.

    Example: groupbuy-ops show order
    groups/5d7c9f3e-0000-4000-8000-000000000001/orders/5d7c9f3e-0000-4000-8000-000000000002
    """
    match name.split("/"):
        case ["groups", key, "orders", one] if is_id(key) and is_id(one):
            _show(broker(kafka), key, one, Output(json), anonymous=anonymous)
        case _:
            raise cannot_run(f"{name!r} is not an order name; expected groups/<uuid>/orders/<uuid> in lower case")


def group_key(name: str) -> str:
    """The key of a group from its name or its id. Raises OpsError."""
    match name.split("/"):
        case ["groups", key] | [key] if is_id(key):
            return key
    raise cannot_run(f"{name!r} is not a group name; expected groups/<uuid> in lower case")


def is_id(text: str) -> bool:
    """Whether a text is a UUID in lower case."""
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def _show(kafka: str, key: str, one: str | None, out: Output, *, anonymous: bool) -> None:
    entries = at_broker(kafka, lambda: history(kafka, key))
    if anonymous:
        entries = without_customers(entries)
    about = f"groups/{key}" + (f"/orders/{one}" if one else "")
    shown = list(lines(entries, one))
    if not shown:
        raise cannot_run(f"{'order' if one else 'group'} not found: the topics at {kafka} have no record of {about}")
    out.show(Text(printable(about), style="bold"))
    for line in shown:
        out.show(styled(line), soft_wrap=True)
    for entry in entries:
        if texts := entry.lines(one):
            out.record({**as_object(entry.spec, entry.record, entry.message), "text": texts})


def styled(line: Line) -> Text:
    """A line with the styles of a terminal."""
    text = Text(f"{line.time:<24}", style="dim")
    text.append(f"  {line.head:<14}", style=_STYLES[WHO[line.entry.spec.name]])
    text.append(line.text)
    return text
