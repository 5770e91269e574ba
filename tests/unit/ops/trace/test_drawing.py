"""Drawings of a trace: the tree, the time axis without long waits, the terminal, SVG and JSON."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from ops.errors import OpsError
from ops.terminal.rich_console import SafeConsole
from ops.trace import attributes, command, svg, terminal
from ops.trace.command import trace
from ops.trace.span import Span
from ops.trace.timeline import Axis, duration_text, rows, subtree
from tests.unit.ops.hostile import ALL, unsafe
from tests.unit.ops.trace.conftest import Recorded
from tests.unit.ops.trace.test_otlp import span
from tests.unit.ops.trace.test_spans import spans_of


def printed(spans: list[Span]) -> str:
    out = io.StringIO()
    SafeConsole(file=out, width=200).print(terminal.table("groups/g", spans), soft_wrap=True)
    return out.getvalue()


def at(number: int, start_ms: int, end_ms: int, **changes: object) -> Span:
    return span(number, start_ms=start_ms, end_ms=end_ms, **changes)


async def test_the_rows_are_the_trees_of_causes(recorded: Recorded) -> None:
    listed = rows(spans_of(recorded.records))
    assert [row.depth for row in listed if row.span.name == "PlaceOrder"] == [0, 0]
    seen: set[str] = set()
    for row in listed:
        assert not row.depth or row.span.parent_id in seen
        seen.add(row.span.span_id)
    assert len(seen) == len(recorded.records)


async def test_the_trace_of_an_order_has_its_steps_and_the_charge_that_another_order_caused(recorded: Recorded) -> None:
    spans = subtree(spans_of(recorded.records), recorded.leader.order, attributes.ORDER)
    names = [one.name for one in spans]
    assert names.count("PlaceOrder") == 1
    assert names.count("provider capture") == 1
    assert "captured" in names


def test_the_axis_leaves_out_long_waits_and_keeps_the_order_of_times() -> None:
    axis = Axis([at(1, 0, 100), at(2, 100, 200), at(3, 3_600_200, 3_600_400)])
    (wait,) = axis.waits
    assert wait.duration_ms == 3_600_000
    assert wait.end - wait.begin == pytest.approx(0.03)
    places = [axis.place(time) for time in (0, 50, 100, 200, 1_800_000, 3_600_200, 3_600_300, 3_600_400)]
    assert places == sorted(places)
    assert (places[0], places[-1]) == (0.0, 1.0)
    # Equal times have equal widths on both sides of the wait.
    assert places[2] - places[0] == pytest.approx(places[6] - places[5])


def test_an_axis_of_one_instant_and_of_many_waits() -> None:
    assert Axis([at(1, 5, 5)]).place(5) == 0.0
    many = Axis([at(number, number * 10_000, number * 10_000 + 1) for number in range(100)])
    assert len(many.waits) == 99
    assert sum(wait.end - wait.begin for wait in many.waits) <= 0.4 + 1e-9
    assert many.place(990_001) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, "0 ms"),
        (999, "999 ms"),
        (1_240, "1.2 s"),
        (200_000, "3 min 20 s"),
        (7_500_000, "2 h 5 min"),
        (356_400_000, "4 d 3 h"),
    ],
)
def test_durations_are_for_people(milliseconds: int, text: str) -> None:
    assert duration_text(milliseconds) == text


async def test_the_terminal_shows_every_step_with_its_service_and_duration(recorded: Recorded) -> None:
    spans = spans_of(recorded.records)
    screen = printed(spans)
    for one in spans:
        (line, *_) = [line for line in screen.splitlines() if one.name in line]
        assert one.service in line
    assert "122 ms" in screen
    assert terminal.waits(spans) == ["1 min 30 s"]


async def test_the_picture_is_well_formed_and_has_a_bar_and_a_text_for_each_span(recorded: Recorded) -> None:
    spans = spans_of(recorded.records)
    root = ElementTree.fromstring(svg.picture("groups/g", spans))
    name = "{http://www.w3.org/2000/svg}"
    assert len(root.findall(f"{name}g")) == len(spans)
    assert root.get("role") == "img"
    assert root.findtext(f"{name}title") == "groups/g"
    assert f"{len(spans)} spans in orders, groups, payments" in (root.findtext(f"{name}desc") or "")
    assert any("wait 1 min 30 s" in (text.text or "") for text in root.iter(f"{name}text"))
    for bar in root.iter(f"{name}rect"):
        assert float(bar.get("x", "0")) + float(bar.get("width", "0")) <= float(root.get("viewBox", "").split()[2])


def test_names_from_foreign_records_are_harmless() -> None:
    hostile = [span(1, name=f'{ALL}<script>alert("x")</script>&')]
    assert not unsafe(printed(hostile))
    drawn = svg.picture(ALL, hostile)
    assert "<script" not in drawn
    assert not unsafe(drawn)
    ElementTree.fromstring(drawn)


async def test_the_command_draws_prints_json_and_writes_the_picture(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    spans = spans_of(recorded.records)
    monkeypatch.setattr(command, "at_broker", lambda address, run: spans)
    name, file = f"groups/{recorded.leader.group}", tmp_path / "trace.svg"
    trace(name, file, "b:1")
    shown = capsys.readouterr()
    assert "PlaceOrder" in shown.out
    assert "left out: 1 min 30 s" in shown.out
    assert file.read_text() == svg.picture(name, spans)
    trace(f"{name}/orders/{recorded.leader.order}", None, "b:1", json=True)
    objects: list[dict[str, Any]] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {one["service"] for one in objects} == {"orders", "groups", "payments"}
    assert len(objects) < len(spans)


@pytest.mark.parametrize("name", ["groups/x", "orders/1", "groups/5d7c9f3e-0000-4000-8000-000000000001/orders/x"])
def test_a_wrong_name_is_refused(name: str) -> None:
    with pytest.raises(OpsError, match="expected groups/<uuid>"):
        trace(name, None, "b:1")


def test_a_group_without_records_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "at_broker", lambda address, run: [])
    with pytest.raises(OpsError, match="group not found"):
        trace("groups/5d7c9f3e-0000-4000-8000-000000000001", None, "b:1")
