"""bench-lastseat: a thousand shoppers join at once for a group's last seat, again and again.

Real broker, real services. In each round one wins, everybody is answered, and the provider has held no money of anybody
else. Prints one JSON object as its last line; exits 1 when the claim fails.
"""

from __future__ import annotations

import argparse
from typing import Any

from groupbuy.simprovider.v1.simprovider_pb2 import ExportStatementRequest
from groupbuy.simprovider.v1.simprovider_pb2_grpc import SimProviderServiceStub

from bench.system import conclude, make_campaign, python, system

WANTED_MS = 1_000.0


def measure(*, rounds: int, joins: int) -> dict[str, Any]:
    """Plays the rounds, then looks at the provider's books."""
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
    return found


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--joins", type=int, default=1_000)
    given = parser.parse_args()
    found = measure(**vars(given))
    conclude(
        found,
        found["one_winner_rounds"] == found["rounds"] == given.rounds,
        found["answered"] == given.rounds * given.joins,
        found["holds_of_losers"] == 0,
        found["p99_ms"] <= WANTED_MS,
    )


if __name__ == "__main__":
    main()
