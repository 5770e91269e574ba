"""What the steps share: the clone, its environment, and one running stack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.first_hour.checkout import Checkout, Deadline, Foreground

#: Seconds for the download and installation of all that .venv has.
INSTALL_S = 700
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Step:
    """One step: what a newcomer does, and the seconds it may take."""

    name: str
    what: str
    deadline_s: float
    #: Raises StepFailed or StepSkipped.
    run: Callable[[Hour], None]
    #: Whether the step uses the clone's .venv.
    installed: bool = True


class Hour:
    """The state of one walk through the steps. Close it."""

    def __init__(self, place: Path, existing: Path | None) -> None:
        """`place` is an empty directory. `existing` is a clone to use in place of a fresh one."""
        self.place = place
        self.checkout = Checkout(existing or place / "groupbuy")
        self._stack: Foreground | None = None

    def begin(self, step: Step) -> None:
        """Prepares a step: the deadline, and the clone with its .venv, which an earlier step made or this one makes."""
        if step.installed:
            self.checkout.deadline = Deadline(INSTALL_S)
            self.install()
        self.checkout.deadline = Deadline(step.deadline_s)

    def clone(self, into: Path, *options: str) -> None:
        """Clones HEAD of this repository."""
        command = ("git", *options, "clone", "--quiet", str(ROOT), str(into))
        self.checkout.run(*command, cwd=self.place).expect(0)

    def install(self, **variables: str | None) -> None:
        """Makes clone and .venv, unless they are there."""
        if not self.checkout.root.exists():
            self.clone(self.checkout.root)
        if not (self.checkout.root / ".venv" / ".done").exists():
            self.checkout.make(".venv/.done", within_s=600, **variables).expect(0)

    def stack(self) -> Foreground:
        """A plain `make up` that serves. Steps without options share it."""
        if self._stack is None:
            stack = Foreground(self.checkout)
            try:
                stack.wait_ready()
            except BaseException:
                stack.close()
                raise
            self._stack = stack
        return self._stack

    def end_stack(self) -> None:
        """Ends the shared stack, for steps that start their own at the default ports."""
        if self._stack is not None:
            stack, self._stack = self._stack, None
            try:
                stack.interrupt()
            finally:
                stack.close()

    def close(self) -> None:
        """Kills what still runs."""
        if self._stack is not None:
            self._stack.close()
