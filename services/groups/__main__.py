"""`python -m services.groups`: runs the groups service until a signal stops it."""

from __future__ import annotations

import sys

from chassis.lifecycle.runner import run
from chassis.lifecycle.settings import load
from chassis.lifecycle.variables import parse_arguments
from services.groups.app import build
from services.groups.settings import GroupsSettings

if __name__ == "__main__":
    parse_arguments(GroupsSettings, "services.groups")
    sys.exit(run(load(GroupsSettings), build))
