"""Answered calls survive a SIGKILL. Method: another process applies calls and prints their answers; it is killed
meanwhile, and the file is opened again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from tests.unit.psp.account_books import Books, adds_up

WRITER = """
import sys
from pathlib import Path
from groupbuy.simprovider.v1 import simprovider_pb2 as pb
from simulators.psp.accounts.account_book import AccountBook

book = AccountBook(Path(sys.argv[1]), lambda: 1_700_000_000_000)
order = 0
while True:
    batch = []
    for order in range(order + 1, order + 8):
        batch.append(pb.AuthoriseRequest(key=f"{order}:authorise:1", order=str(order), payment_method="card_ok",
                                         amount_minor=100, currency="CNY"))
    for held in book.apply(batch):
        batch.append(pb.CaptureRequest(key=held.key.replace("authorise", "capture"), hold=held.hold, amount_minor=70))
    for answer in book.apply(batch):
        print(answer.SerializeToString().hex(), flush=True)
"""


def test_calls_answered_before_a_kill_are_in_the_account_book(tmp_path: Path) -> None:
    path = tmp_path / "books.sqlite"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        lines = [next(writer.stdout) for _ in range(300)]
        writer.kill()
        # Printed before the kill and read after it; the last line may be torn.
        lines += [line for line in writer.stdout if line.endswith("\n")]
    answers = [pb.CallResult.FromString(bytes.fromhex(line)) for line in lines]

    books = Books(path)
    for answer in answers:
        assert books.apply(pb.LookUpRequest(key=answer.key)) == answer
    entries = {entry.hold: entry for entry in books.statement()}
    for answer in answers:
        if answer.status == pb.STATUS_CAPTURED:
            assert entries[answer.hold].captured_minor == 70
    assert all(adds_up(entry) for entry in entries.values())
    books.account_book.close()
