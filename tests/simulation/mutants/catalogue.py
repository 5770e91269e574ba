"""All planted bugs, by name. Each is a plausible mistake that the simulation, or a unit test it names, has to find."""

from __future__ import annotations

from tests.simulation.mutants.closing import CLOSING
from tests.simulation.mutants.groups import SEATS
from tests.simulation.mutants.inventory import INVENTORY, WHOLE_SALES
from tests.simulation.mutants.kernel import KERNEL
from tests.simulation.mutants.money import MONEY
from tests.simulation.mutants.outside import OUTSIDE
from tests.simulation.mutants.planting import Mutant
from tests.simulation.mutants.provider_life import PROVIDER_LIFE
from tests.simulation.mutants.settlement import SETTLEMENT

_ALL: tuple[Mutant, ...] = (
    *SEATS, *CLOSING, *MONEY, *PROVIDER_LIFE, *SETTLEMENT, *KERNEL, *INVENTORY, *WHOLE_SALES, *OUTSIDE,
)  # fmt: skip
#: Bugs that only a sale of pieces finds.
IN_SALES = frozenset(one.name for one in (*INVENTORY, *WHOLE_SALES))
MUTANTS: dict[str, Mutant] = {one.name: one for one in _ALL}
if len(MUTANTS) != len(_ALL):
    raise RuntimeError("two mutants have one name")
