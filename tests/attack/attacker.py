"""One attack in its own process: `python -m tests.attack.attacker site.json name size`; prints the outcome as JSON.

The process has a low priority: a remote attacker could not take processor time from the services.
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

#: Timeout of an attack in seconds.
WITHIN_S = 120.0
#: Nice value; 19 is the lowest priority.
NICE = 15


def main(site: Path, name: str, size: float) -> int:
    """Runs the attack and prints the outcome."""
    os.nice(NICE)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # gRPC logs every refused connection.
    os.environ["GRPC_VERBOSITY"] = "NONE"
    outcome = asyncio.run(asyncio.wait_for(ATTACKS[name].run(Site.read(site), size), WITHIN_S))
    sys.stdout.write(json.dumps(asdict(outcome)) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])))
