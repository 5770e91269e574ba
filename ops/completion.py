"""Values for shell completion, from what is known without a broker: the lists of the program."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from shared_kernel.topics import ALL, INVENTORY

Complete = Callable[[str], list[str]]


def offering(values: Iterable[str]) -> Complete:
    """Completes to those of the values that begin with the typed text."""
    known = sorted(set(values))
    return lambda incomplete: [one for one in known if one.startswith(incomplete)]


topics = offering(spec.name for spec in ALL)
#: Topics of which a record can be skipped, as in `ops.broker.skip`: those with a message and a reader that are not
#: compacted, without those of the inventory, which the command line does not fold.
_foldable = (
    spec for spec in ALL if spec.readers and spec not in INVENTORY and spec.message is not None and not spec.compacted
)
skippable = offering(spec.name for spec in _foldable)
dead_letter_topics = offering(spec.name for spec in ALL if spec.message is None)
