"""`python -m services.groups`: runs the groups service until a signal; `--workers N` runs N processes."""

from __future__ import annotations

import sys

from chassis.lifecycle import workers
from chassis.lifecycle.settings import load
from services.groups.settings import GroupsSettings

if __name__ == "__main__":
    asked = workers.parse(GroupsSettings, "services.groups")
    settings = load(GroupsSettings)
    if asked is not None:
        sys.exit(workers.run(settings, "services.groups", asked))
    # The launcher does not need them: it takes half the memory without.
    from chassis.lifecycle.runner import run
    from services.groups.app import build

    sys.exit(run(settings, build))
