"""`python -m services.orders`: runs the orders service until a signal; `--workers N` runs N processes."""

from __future__ import annotations

import sys

from chassis.lifecycle import workers
from chassis.lifecycle.settings import load
from services.orders.settings import OrdersSettings

if __name__ == "__main__":
    asked = workers.parse(OrdersSettings, "services.orders")
    settings = load(OrdersSettings)
    if asked is not None:
        sys.exit(workers.run(settings, "services.orders", asked))
    # The launcher does not need them: it takes half the memory without.
    from chassis.lifecycle.runner import run
    from services.orders.app import build

    sys.exit(run(settings, build))
