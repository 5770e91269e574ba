"""State of the allowance of one customer in one campaign: the fold of its decisions. Only `evolve` changes it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Allowance:
    """The orders of one customer in one campaign that are within the limit: live, or bought."""

    #: Pieces by order.
    admitted: dict[str, int] = field(default_factory=dict)
    #: Sum of them.
    pieces: int = 0
    #: Greatest cause that was heard from each partition of the groups' log.
    heard: dict[int, int] = field(default_factory=dict)
