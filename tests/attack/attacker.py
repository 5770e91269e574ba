"""One attack in a process of its own: `python -m tests.attack.attacker site.json name size`; the outcome is JSON.

It gives way to the attacked processes: on one machine it would otherwise take from them what no remote attacker can.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
from dataclasses import asdict
from pathlib import Path

from tests.attack.attacks import ATTACKS
from tests.attack.site import Site

#: Seconds that an attack may take.
WITHIN_S = 120.0
#: Of 19: the lowest priority.
NICE = 15


def main(site: Path, name: str, size: float) -> int:
    """Attacks, and prints the outcome."""
    os.nice(NICE)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # gRPC writes of every connection that is refused.
    os.environ["GRPC_VERBOSITY"] = "NONE"
    outcome = asyncio.run(asyncio.wait_for(ATTACKS[name].run(Site.read(site), size), WITHIN_S))
    sys.stdout.write(json.dumps(asdict(outcome)) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])))
