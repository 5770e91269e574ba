"""All alerts, and what their expressions refer to."""

from __future__ import annotations

import re
from collections.abc import Iterator

from chassis.telemetry.metrics.metric import LABELS, Kind, Metric
from chassis.telemetry.metrics.metric_catalogue import CATALOGUE
from tools.observe.alert import Alert, Group, Record
from tools.observe.alerts_api import API
from tools.observe.alerts_kernel import KERNEL
from tools.observe.alerts_money import MONEY, PROVIDER
from tools.observe.alerts_process import PROCESS

GROUPS: tuple[Group, ...] = (API, KERNEL, PROCESS, MONEY, PROVIDER)
ALERTS: dict[str, Alert] = {rule.name: rule for group in GROUPS for rule in group.rules if isinstance(rule, Alert)}
RECORDS: frozenset[str] = frozenset(rule.name for group in GROUPS for rule in group.rules if isinstance(rule, Record))

#: Added by Prometheus: a target's own series, and the labels of every series.
_OF_PROMETHEUS = {"up": ()}
_TARGET_LABELS = {"job", "instance"}
#: Names in PromQL that are followed neither by a parenthesis nor by a label list.
_WORDS = frozenset({"and", "or", "unless", "by", "on", "without", "ignoring", "group_left", "group_right", "bool"})
_STRING = re.compile(r'"[^"]*"')
_SELECTOR = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(\{[^}]*\})?")
_GROUPING = re.compile(r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_MATCHER = re.compile(r'([a-zA-Z_]\w*)\s*(=~|!~|!=|=)\s*"([^"]*)"')


def unknown(expr: str) -> list[str]:
    """Names in an expression that the catalogue lacks: metrics, labels, and values of labels with a list of words."""
    return list(_unknown(expr))


def metrics_of(expr: str) -> list[str]:
    """Names of the series that an expression selects."""
    return [name for name, _ in _selectors(expr)]


def _unknown(expr: str) -> Iterator[str]:
    known = {series: one for one in CATALOGUE for series in _series(one)}
    allowed = set(_TARGET_LABELS)
    for name, matchers in _selectors(expr):
        if name in RECORDS:
            allowed |= {"grpc_service"}
            continue
        metric = known.get(name)
        if metric is None and name not in _OF_PROMETHEUS:
            yield f"metric {name}"
            continue
        labels = {*_TARGET_LABELS, *(metric.labels if metric is not None else ())}
        if metric is not None and metric.kind is Kind.HISTOGRAM:
            labels.add("le")
        allowed |= labels
        for label, operator, value in _MATCHER.findall(matchers):
            if label not in labels:
                yield f"label {label} of {name}"
            elif operator in {"=", "=~"} and label in _CLOSED:
                values = value.split("|") if operator == "=~" else [value]
                yield from (f"{label}={one}" for one in values if one not in LABELS[label])
    for names in _GROUPING.findall(expr):
        yield from (f"label {one}" for one in re.findall(r"\w+", names) if one not in allowed)


#: Labels whose values the catalogue lists by name.
_CLOSED = frozenset({"check", "end", "flow", "kind", "older_than", "operation", "outcome", "reason", "result"})


def _series(metric: Metric) -> tuple[str, ...]:
    if metric.kind is not Kind.HISTOGRAM:
        return (metric.name,)
    return tuple(f"{metric.name}_{part}" for part in ("bucket", "sum", "count"))


def _selectors(expr: str) -> Iterator[tuple[str, str]]:
    """Name and label matchers of each selector."""
    text = _GROUPING.sub(" ", expr)
    text = re.sub(r"\[[^\]]*\]|\boffset\s+\w+", " ", text)
    covered = _STRING.sub(lambda found: "_" * len(found[0]), text)
    for found in _SELECTOR.finditer(covered):
        name, end = found[1], found.end()
        number = found.start() > 0 and covered[found.start() - 1] in "0123456789."
        called = found[2] is None and covered[end:].startswith("(")
        if not (name in _WORDS or called or number or name == "inf"):
            yield name, text[found.start(2) : found.end(2)] if found[2] is not None else ""
