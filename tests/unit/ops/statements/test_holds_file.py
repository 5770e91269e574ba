"""The provider's statement file is read; an invalid one is refused with the line."""

from __future__ import annotations

from pathlib import Path

import pytest
from groupbuy.simprovider.v1.simprovider_pb2 import StatementEntry

from ops.errors import OpsError
from ops.main import main
from ops.statements.holds_file import AMOUNTS, TEXTS, read
from simulators.psp.http_server import COLUMNS

HEADER = "hold,order,group,currency,authorised_minor,captured_minor,released_minor,refunded_minor,open_minor"
GOOD = "h1,o1,g1,JPY,1500,1200,300,0,0"


def written(path: Path, *lines: str) -> Path:
    file = path / "statement.csv"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def test_each_line_is_one_hold(tmp_path: Path) -> None:
    (entry,) = read(written(tmp_path, HEADER, GOOD))
    assert entry == StatementEntry(
        hold="h1",
        order="o1",
        group="g1",
        currency="JPY",
        authorised_minor=1500,
        captured_minor=1200,
        released_minor=300,
    )


def test_columns_come_in_any_order_and_unknown_ones_are_ignored(tmp_path: Path) -> None:
    file = written(tmp_path, f"wire,note,{HEADER}", f'stripe,"a, b",{GOOD}')
    assert [(entry.wire, entry.hold) for entry in read(file)] == [("stripe", "h1")]


def test_a_statement_may_be_empty(tmp_path: Path) -> None:
    assert read(written(tmp_path, HEADER)) == []


def test_the_simulated_provider_writes_all_required_columns() -> None:
    assert {*TEXTS, *AMOUNTS} <= set(COLUMNS)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["hold,order", "h1,o1"], "its header lacks group, currency, authorised_minor"),
        ([""], "its header lacks hold"),
        ([HEADER, "h1,o1,g1,JPY,15.00,0,0,0,0"], "line 2: authorised_minor is '15.00', not a whole number"),
        ([HEADER, GOOD, "h2,o1,g1,JPY,-1,0,0,0,0"], "line 3: authorised_minor is '-1'"),
        ([HEADER, "h2,o1,g1,JPY,1"], "line 2: captured_minor is ''"),
        ([HEADER, "h2,o1,g1,JPY,1,0,0,0," + "9" * 30], "not a whole number"),
        ([HEADER, ",o1,g1,JPY,1,0,0,0,1"], "line 2: the hold is missing"),
        ([HEADER, GOOD, GOOD], "has hold h1 twice"),
    ],
)
def test_an_invalid_statement_is_refused_with_its_line(tmp_path: Path, lines: list[str], expected: str) -> None:
    with pytest.raises(OpsError) as refused:
        read(written(tmp_path, *lines))
    assert expected in str(refused.value)
    assert refused.value.exit_code == 2


def test_a_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OpsError, match="can't be read"):
        read(tmp_path / "none.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(OpsError, match="can't be read"):
        read(tmp_path / "binary.csv")


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["reconcile", "--statement", "nowhere.csv"], "nowhere.csv can't be read"),
        (["reconcile", "--provider", "there"], "--provider takes host:port"),
        (["reconcile", "--until", "yesterday"], "'yesterday' does not match the formats"),
        (["audit", "--without-provider", "--roots", "nowhere.json"], "no Kafka broker answers at 127.0.0.1:1"),
        (["ledger", "roots"], "Missing option '--out'"),
    ],
)
def test_a_wrong_argument_is_one_sentence_and_exit_2(
    args: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*args, "--kafka", "127.0.0.1:1"]) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1
