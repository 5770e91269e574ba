"""All dashboards."""

from __future__ import annotations

from tools.observe.dashboards.dashboards_money import CAPACITY, MONEY, PROVIDER
from tools.observe.dashboards.dashboards_service import API, KERNEL, OVERVIEW

DASHBOARDS = (OVERVIEW, API, KERNEL, MONEY, PROVIDER, CAPACITY)
