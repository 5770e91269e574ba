"""What a run fails with: one promise broken, at one place."""

from __future__ import annotations


class Violation(Exception):
    """A promise that does not hold. `group` says whose history to show; empty: no single one's."""

    def __init__(self, promise: str, group: str, what: str) -> None:
        super().__init__(f"{promise}: {what}" + (f" (group {group})" if group else ""))
        self.promise = promise
        self.group = group
        self.what = what
