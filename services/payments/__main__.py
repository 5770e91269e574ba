"""`python -m services.payments`: runs the payments service until a signal; `--workers N` runs N processes."""

from __future__ import annotations

import asyncio
import sys

from chassis.lifecycle import workers
from chassis.lifecycle.settings import EXIT_CODE, load
from services.payments.settings import PaymentsSettings

if __name__ == "__main__":
    asked = workers.parse(PaymentsSettings, "services.payments")
    settings = load(PaymentsSettings)
    if asked is not None:
        sys.exit(workers.run(settings, "services.payments", asked))
    # The launcher does not need them: it takes half the memory without.
    from chassis.lifecycle.runner import run
    from services.payments.app import build
    from services.payments.providers.proof import refused_credentials

    if refused := asyncio.run(refused_credentials(settings)):
        sys.stderr.write(f"payments can't start: {'; '.join(refused)}\n")
        sys.exit(EXIT_CODE)
    sys.exit(run(settings, build))
