"""`python -m services.payments`: runs the payments service until it receives SIGTERM or SIGINT."""

from __future__ import annotations

import sys

from chassis.lifecycle.runner import run
from chassis.lifecycle.settings import load
from chassis.lifecycle.variables import parse_arguments
from services.payments.app import build
from services.payments.settings import PaymentsSettings

if __name__ == "__main__":
    parse_arguments(PaymentsSettings, "services.payments")
    sys.exit(run(load(PaymentsSettings), build))
