"""The error of a failing run: one guarantee, violated at one place."""

from __future__ import annotations


class Violation(Exception):
    """A violated guarantee. `group` is the group whose history explains it; empty if there is no single one."""

    def __init__(self, promise: str, group: str, what: str) -> None:
        super().__init__(f"{promise}: {what}" + (f" (group {group})" if group else ""))
        self.promise = promise
        self.group = group
        self.what = what
