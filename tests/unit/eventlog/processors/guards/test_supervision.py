"""Supervision: background tasks that end, missing states, and recoveries without progress end the process."""

from __future__ import annotations

import pytest

from tests.unit.eventlog.processors.bare_processor import PROGRAM
from tests.unit.eventlog.support import run_python


@pytest.mark.parametrize("body", ["raise asyncio.CancelledError", "pass", "raise ValueError"])
def test_a_background_task_that_ends_ends_the_process(body: str) -> None:
    before = f"async def work(): {body}"
    main = "bare = Bare(None); bare._tasks = []; bare.spawn(work(), 'timers')"
    done = run_python(PROGRAM.format(before=before, main=main))
    assert done.returncode == 70
    assert "a task ended task=g.timers" in done.stderr


def test_a_batch_of_the_current_epoch_without_a_state_ends_the_process() -> None:
    before = "from eventlog.processors.base import Batch"
    main = "; ".join(f"Bare(None).report_missing_state(Batch('inbox', {batch}))" for batch in ("0, [], 0", "3, [], 1"))
    done = run_python(PROGRAM.format(before=before, main=main))
    assert done.returncode == 70
    assert "no state processor=g partition=3" in done.stderr


STALLED = """
    import asyncio
    from types import SimpleNamespace
    from eventlog.processors.guards import supervision
    from tests.unit.eventlog.processors.bare_processor import Bare
    supervision.STALLED_S, supervision.POLL_INTERVAL_S = 0.2, 0.02
    async def main():
        bare = Bare(None)
        bare.progress = 0
        bare.app.consumer = SimpleNamespace(epoch=2, fetched=0, assigned={assigned}, resumed={resumed})
        asyncio.create_task(supervision.watch_recovery(bare))
        for _ in range(40):
            await asyncio.sleep(0.02)
            bare.progress += {progress}
        print("WENT ON")
    asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("assigned", "resumed", "progress", "ends"),
    [(True, False, 0, True), (True, False, 1, False), (True, True, 0, False), (False, False, 0, False)],
)
def test_a_recovery_without_progress_ends_the_process(assigned: bool, resumed: bool, progress: int, ends: bool) -> None:
    done = run_python(STALLED.format(assigned=assigned, resumed=resumed, progress=progress))
    assert ("WENT ON" in done.stdout) is not ends
    assert ("assigned, but not recovered processor=g" in done.stderr) is ends
    assert done.returncode == (70 if ends else 0)
