"""A recorded history gives the same view as the evening that it was recorded from."""

from __future__ import annotations

from pathlib import Path

from ops.demo.board import TOPICS, Board
from ops.demo.history import Recorder, replay
from ops.demo.plan import plan
from ops.demo.player import Tally
from ops.demo.screen.results import print_results
from ops.demo.screen.view import View
from tests.unit.ops.demo.evenings import Services, SimulatedEvening, console, printed
from tests.unit.ops.simulated_system import START_MS

FRAMES = 8
FRAME_S = 4.0


def text_of(view: View) -> str:
    made = console(200)
    made.print(view)
    print_results(made, view.board, view.tally)
    return printed(made)


def test_each_frame_is_rendered_as_it_was(tmp_path: Path) -> None:
    evening = SimulatedEvening.of(300, 20, tmp_path)
    now_s = START_MS / 1000
    view = View(plan(300, 20), Board({"ceramic-mug": "Ceramic mug"}), Tally(), Services())
    view.started_s, view.now_s = now_s, lambda: now_s
    recorder = Recorder()
    expected = []
    for number in range(FRAMES):
        since_ms, now_s = now_s * 1000, now_s + FRAME_S
        for topic in TOPICS:
            records = [r for r in evening.system.topics[topic] if since_ms < r.timestamp <= now_s * 1000]
            view.board.take(topic, records)
            recorder.take(topic, records)
        view.stage, view.incident = f"stage {number}", "groups was killed" if number > 2 else ""
        view.tally.placed += 10
        view.tally.answers["CONFIRMED"] += number
        if number < FRAMES - 1:
            recorder.frame(view)
        expected.append(text_of(view))
    recorder.write(tmp_path / "history.gz", view)
    assert [text_of(one) for one in replay(tmp_path / "history.gz")] == expected
    assert "¥" in expected[-1]


def test_the_same_history_is_the_same_file(tmp_path: Path) -> None:
    view = View(plan(10, 1), Board({}), Tally(), Services(), started_s=1.0, now_s=lambda: 1.0)
    for name in ("one", "two"):
        Recorder().write(tmp_path / name, view)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
