"""The templates: Jinja with autoescape, and an error for each unknown name."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ops.log.rendering.describe import clock, day_and_clock, short
from ops.terminal.amounts import amount

FOLDER = Path(__file__).resolve().parents[1] / "templates"


def iso(time_ms: int) -> str:
    """A time for the attribute `datetime`."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def count(number: int) -> str:
    """A number with thousands separators."""
    return f"{number:,}"


@lru_cache(maxsize=1)
def environment() -> Environment:
    """The environment of all templates."""
    made = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters.update(money=amount, short=short, clock=clock, day=day_and_clock, iso=iso, count=count)
    # All at once: a template with an error, or of a newer build, is known at the start.
    for name in made.list_templates(extensions=["html"]):
        made.get_template(name)
    return made


def render(name: str, **values: Any) -> str:
    """The HTML of a template."""
    return environment().get_template(name).render(**values)


def fragment(template: str, macro: str, *values: Any) -> str:
    """The HTML of a macro."""
    module: Any = environment().get_template(template).module
    return str(getattr(module, macro)(*values)).strip()
