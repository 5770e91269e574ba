"""What was answered is kept when the process is killed. Method: a process of its own writes and says what it has
answered; it is killed by SIGKILL in the middle of that, and the books are opened again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from tests.unit.psp.books import Books, adds_up

WRITER = """
import sys
from pathlib import Path
from groupbuy.simprovider.v1 import simprovider_pb2 as pb
from simulators.psp.accounts import Ledger

ledger = Ledger(Path(sys.argv[1]), lambda: 1_700_000_000_000)
order = 0
while True:
    batch = []
    for order in range(order + 1, order + 8):
        batch.append(pb.AuthoriseRequest(key=f"{order}:authorise:1", order=str(order), payment_method="card_ok",
                                         amount_minor=100, currency="CNY"))
    for held in ledger.apply(batch):
        batch.append(pb.CaptureRequest(key=held.key.replace("authorise", "capture"), hold=held.hold, amount_minor=70))
    for answer in ledger.apply(batch):
        print(answer.SerializeToString().hex(), flush=True)
"""


def test_what_was_answered_before_a_kill_is_in_the_books(tmp_path: Path) -> None:
    path = tmp_path / "books.sqlite"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        lines = [next(writer.stdout) for _ in range(300)]
        writer.kill()
        # Said before the kill, read after it; the last line may be torn.
        lines += [line for line in writer.stdout if line.endswith("\n")]
    answers = [pb.CallResult.FromString(bytes.fromhex(line)) for line in lines]

    books = Books(path)
    for answer in answers:
        assert books.ask(pb.LookUpRequest(key=answer.key)) == answer
    entries = {entry.hold: entry for entry in books.statement()}
    for answer in answers:
        if answer.status == pb.STATUS_CAPTURED:
            assert entries[answer.hold].captured_minor == 70
    assert all(adds_up(entry) for entry in entries.values())
    books.ledger.close()
