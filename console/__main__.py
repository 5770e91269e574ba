"""`python -m console`: runs the console until a signal stops it.

Exit codes: 0 stopped by a signal, 2 a setting can't be used.
"""

from __future__ import annotations

import asyncio
import logging
import sys

from chassis.lifecycle.settings import EXIT_CODE, load
from chassis.lifecycle.variables import parse_arguments
from chassis.telemetry import logging as telemetry
from console.app import Console, Unusable
from console.settings import ConsoleSettings


def main() -> int:
    """Reads the settings and runs. Returns the exit code."""
    parse_arguments(ConsoleSettings, "console")
    settings = load(ConsoleSettings)
    telemetry.configure(
        level=settings.log_level.upper(), form=settings.log_format, service="console", instance="console"
    )
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        asyncio.run(Console(settings).run())
    except Unusable as error:
        sys.stderr.write(f"console can't start: {error}\n")
        return EXIT_CODE
    return 0


if __name__ == "__main__":
    sys.exit(main())
