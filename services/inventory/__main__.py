"""`python -m services.inventory`: runs the inventory service until a signal stops it."""

from __future__ import annotations

import sys

from chassis.lifecycle.runner import run
from chassis.lifecycle.settings import load
from chassis.lifecycle.variables import parse_arguments
from services.inventory.app import build
from services.inventory.settings import InventorySettings

if __name__ == "__main__":
    parse_arguments(InventorySettings, "services.inventory")
    sys.exit(run(load(InventorySettings), build))
