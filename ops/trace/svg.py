"""Draws a trace as an SVG picture, without a backend and without fonts or scripts from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape, quoteattr

from chassis.telemetry.printable import printable
from ops.trace.span import Span
from ops.trace.timeline import Axis, duration_text, rows

_WIDTH = 1_160
_NAMES = 420
_TIMES = 84
_ROW = 22
_TOP = 64
_INDENT = 12
_MIN_BAR = 2.0
_BARS = _WIDTH - _NAMES - _TIMES - 16
#: Fills with enough contrast on white; a second sign of the service is its name in the title of each bar.
_COLOURS = {"orders": "#0b7285", "groups": "#2b8a3e", "payments": "#b35c00"}
_OTHER = "#495057"
_ERROR = "#c92a2a"
_MAX_NAME = 58


def picture(title: str, spans: Sequence[Span]) -> str:
    """The picture of at least one span."""
    axis = Axis(spans)
    listed = rows(spans)
    height = _TOP + _ROW * len(listed) + 16
    services = sorted({span.service for span in spans}, key=lambda name: list(_COLOURS).index(name))
    about = f"{len(listed)} spans in {', '.join(services)}, {duration_text(axis.end_ms - axis.start_ms)} in all"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-labelledby="title about" font-family="ui-sans-serif, system-ui, sans-serif" font-size="12">',
        f'<title id="title">{_text(title)}</title>',
        f'<desc id="about">{_text(about)}</desc>',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="12" y="24" font-size="15" font-weight="600" fill="#212529">{_text(title)}</text>',
        f'<text x="12" y="44" fill="#495057">{_text(about)}</text>',
    ]
    for index, service in enumerate(services):
        left = _NAMES + index * 110
        parts.append(f'<rect x="{left}" y="34" width="12" height="12" rx="2" fill="{_COLOURS[service]}"/>')
        parts.append(f'<text x="{left + 18}" y="44" fill="#212529">{_text(service)}</text>')
    for index, row in enumerate(listed):
        span = row.span
        y = _TOP + index * _ROW
        if index % 2:
            parts.append(f'<rect x="0" y="{y}" width="{_WIDTH}" height="{_ROW}" fill="#f8f9fa"/>')
        begin, end = axis.place(span.start_ms), axis.place(span.end_ms)
        x, width = _NAMES + begin * _BARS, max((end - begin) * _BARS, _MIN_BAR)
        colour = _ERROR if span.error else _COLOURS.get(span.service, _OTHER)
        name = span.name if len(span.name) <= _MAX_NAME else f"{span.name[: _MAX_NAME - 1]}…"
        hint = f"{span.service}: {span.name}, {duration_text(span.duration_ms)}"
        parts.append(f"<g><title>{_text(hint)}</title>")
        parts.append(f'<text x="{12 + min(row.depth, 12) * _INDENT}" y="{y + 15}" fill="#212529">{_text(name)}</text>')
        parts.append(
            f'<rect x="{x:.1f}" y="{y + 5}" width="{width:.1f}" height="{_ROW - 10}" rx="2" fill={quoteattr(colour)}/>'
        )
        parts.append(
            f'<text x="{_WIDTH - 12}" y="{y + 15}" text-anchor="end" fill="#495057">'
            f"{_text(duration_text(span.duration_ms))}</text></g>"
        )
    bottom = height - 10
    for wait in axis.waits:
        x = _NAMES + (wait.begin + wait.end) / 2 * _BARS
        parts.append(
            f'<line x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{bottom}" stroke="#adb5bd" stroke-dasharray="2 4"/>'
        )
        parts.append(
            f'<text x="{x:.1f}" y="{_TOP - 4}" text-anchor="middle" font-size="10" fill="#495057">'
            f"{_text(f'wait {duration_text(wait.duration_ms)}')}</text>"
        )
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def _text(text: str) -> str:
    return escape(printable(text))
