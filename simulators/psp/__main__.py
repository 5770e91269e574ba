"""Runs the simulated provider: `python -m simulators.psp`.

Exits with 0 once drained, and with 2 if its settings, certificates, policy or accounts are unusable.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import structlog
from pydantic import ValidationError

from chassis.identity.policy import PolicyError
from chassis.identity.tls import BadCertificates
from chassis.lifecycle.variables import parse_arguments, unknown_variables
from simulators.psp.accounts.account_book import AccountBookUnusable
from simulators.psp.server import Server
from simulators.psp.settings import Settings

UNUSABLE = 2


async def serve(settings: Settings) -> int:
    """Serves until SIGTERM or SIGINT. Returns the exit code."""
    log = structlog.get_logger()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    try:
        server = Server(settings)
    except AccountBookUnusable as error:
        log.error("account book unusable", error=str(error))
        return UNUSABLE
    except BadCertificates as error:
        log.error("certificates unusable", error=str(error))
        return UNUSABLE
    except PolicyError as error:
        log.error("access policy unusable", error=str(error))
        return UNUSABLE
    try:
        address = await server.start()
    except RuntimeError as error:
        log.error("can't listen", listen=settings.listen, error=str(error))
        await server.stop(0)
        return UNUSABLE
    log.info("listening", address=address, http=server.http_address, database=str(settings.database))
    await stopping.wait()
    log.info("draining", seconds=settings.drain_seconds)
    await server.stop(settings.drain_seconds)
    log.info("drained")
    return 0


def main() -> int:
    """Reads the settings and serves. Returns the exit code."""
    parse_arguments(Settings, "simulators.psp")
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
    )
    unknown = unknown_variables(Settings, os.environ)
    for name, nearest in unknown.items():
        structlog.get_logger().error("unknown setting", name=name, error=f"did you mean {nearest}?")
    try:
        settings = Settings()
    except ValidationError as error:
        for one in error.errors():
            # An error without a location concerns several settings.
            field = "_".join(str(part) for part in one["loc"]).upper() or "*"
            structlog.get_logger().error("bad setting", name=f"GROUPBUY_SIMPROVIDER_{field}", error=one["msg"])
        return UNUSABLE
    return UNUSABLE if unknown else asyncio.run(serve(settings))


if __name__ == "__main__":
    sys.exit(main())
