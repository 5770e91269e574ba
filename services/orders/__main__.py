"""`python -m services.orders`: runs the orders service until a signal stops it."""

from __future__ import annotations

import sys

from chassis.lifecycle.runner import run
from chassis.lifecycle.settings import load
from chassis.lifecycle.variables import parse_arguments
from services.orders.app import build
from services.orders.settings import OrdersSettings

if __name__ == "__main__":
    parse_arguments(OrdersSettings, "services.orders")
    sys.exit(run(load(OrdersSettings), build))
