"""Imports every module of the installed distributions. Prints their number, or ends with the first error."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys

#: Modules at the top of an environment, and of the runtime inside groupbuy_settlement.
INSTALLED = ("groupbuy", "groupbuy_client", "groupbuy_settlement", "groupbuy_testing")
RUNTIME = ("chassis", "console", "devstack", "eventlog", "ops", "services", "shared_kernel", "simulators")


def main() -> None:
    """Imports the packages that the environment has; a __main__ would run, so it is found only."""
    packages = [name for name in INSTALLED if importlib.util.find_spec(name)]
    if "groupbuy_settlement" in packages:
        enter = importlib.import_module("groupbuy_settlement.__main__").enter_runtime
        enter()
        packages += RUNTIME
    names = list(packages)
    for package in packages:
        module = importlib.import_module(package)
        file = module.__file__ or ""
        if not file.startswith(sys.prefix):
            sys.exit(f"{package} is {file}, outside the environment")
        for found in pkgutil.walk_packages(module.__path__, f"{package}.", onerror=_fail):
            names.append(found.name)
            if not found.name.endswith(".__main__"):
                importlib.import_module(found.name)
    print(len(names))


def _fail(name: str) -> None:
    sys.exit(f"cannot import {name}: {sys.exc_info()[1]!r}")


if __name__ == "__main__":
    main()
