"""The output layer: the result on standard output, notes on standard error, JSON alone with --json."""

from __future__ import annotations

import io
import json
import sys

import pytest
from rich.table import Table

from ops.terminal import streams
from ops.terminal.output import Output
from tests.unit.ops.hostile import ALL, forged, unsafe


def print_everything(out: Output) -> None:
    table = Table()
    table.add_column("reason")
    table.add_row(ALL)
    out.line(ALL)
    out.show(table)
    out.show(ALL, soft_wrap=True)
    out.record({"reason": ALL})
    out.note(ALL)
    out.figures({"count": 1})


def test_people_get_lines_tables_and_figures(capsys: pytest.CaptureFixture[str]) -> None:
    print_everything(Output())
    printed = capsys.readouterr()
    assert json.loads(printed.out.splitlines()[-1]) == {"count": 1}
    assert '"reason"' not in printed.out
    assert printed.err.count("\n") == 1
    for screen in printed:
        assert not unsafe(screen)
        assert not forged(screen)


def test_json_is_alone_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    print_everything(Output(json=True))
    printed = capsys.readouterr()
    assert [json.loads(line) for line in printed.out.splitlines()] == [{"reason": ALL}, {"count": 1}]
    assert not unsafe(printed.out)
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "gbk", "cp1252", "utf-8"])
def test_output_fits_every_encoding(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    streams.prepare()
    text = "¥89.00 → 拼团 × münchen …"
    out = Output()
    table = Table("price")
    table.add_row(text)
    out.line(text)
    out.show(table)
    out.figures({"text": text})
    sys.stdout.flush()
    lines = raw.getvalue().decode(encoding).splitlines()
    assert json.loads(lines[-1]) == {"text": text}
    shown = streams.shown(text, encoding)
    assert lines[0] == shown
    assert "89.00" in shown
    assert any(shown in line for line in lines[1:-1])
    # The frame of the table is straight: all its lines have one width.
    assert len({sum(2 if ord(char) > 0x2E7F else 1 for char in line) for line in lines[1:-1]}) == 1


def test_the_yen_sign_of_gbk_is_the_full_width_one() -> None:
    assert streams.shown("¥1", "gbk") == "￥1"
    assert streams.shown("¥1", "ascii") == "Y1"
    assert streams.shown("拼", "ascii") == "\\u62fc"


def test_a_stream_that_is_closed_at_the_start_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    streams.prepare()
    print_everything(Output())
