"""bench-lastseat: a thousand shoppers compete for the last seat of a group, in many rounds.

Real broker and real services. In each round one shopper wins, every call gets a response, and the provider has no hold
of a loser. Prints one JSON object as its last line, and exits with 1 if a target is missed.
"""

from __future__ import annotations

import argparse
from typing import Any

from groupbuy.simprovider.v1.simprovider_pb2 import ExportStatementRequest
from groupbuy.simprovider.v1.simprovider_pb2_grpc import SimProviderServiceStub

from bench.command import conclude, python
from bench.system import make_campaign, system
from bench.yardstick import measure_echo

#: Time until the last of a thousand calls has its response, in calls of the echo server for each of them.
MAX_ECHOES_PER_JOIN = 8.0
ECHO_S = 5.0


def measure(*, rounds: int, joins: int) -> dict[str, Any]:
    """Runs the rounds, then reads the provider's statement."""
    echo = measure_echo(ECHO_S)
    with system() as running:
        campaign = make_campaign(running, capacity=2)
        job = {
            "endpoint": running.endpoints["orders"],
            "campaign": campaign,
            "rounds": rounds,
            "joins": joins,
        }
        found: dict[str, Any] = python("bench.lastseat.load", job)
        seated = set(found.pop("seated"))
        statement = SimProviderServiceStub(running.provider).ExportStatement(ExportStatementRequest())
        found["holds_of_losers"] = sum(entry.order not in seated for entry in statement)
    found["echo_per_s"] = round(echo.per_s)
    found["echoes_per_join"] = round(echo.calls_in(found["p99_ms"]) / joins, 1)
    return found


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--joins", type=int, default=1_000, help="shoppers in each round")
    given = parser.parse_args()
    found = measure(**vars(given))
    conclude(
        found,
        found["one_winner_rounds"] == found["rounds"] == given.rounds,
        found["answered"] == given.rounds * given.joins,
        found["holds_of_losers"] == 0,
        found["echoes_per_join"] <= MAX_ECHOES_PER_JOIN,
    )


if __name__ == "__main__":
    main()
