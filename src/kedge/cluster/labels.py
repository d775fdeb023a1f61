"""Label selectors as objects hold them, matched against labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kedge.cluster.base import Object


def labels_of(obj: Object) -> dict[str, str]:
    found: dict[str, str] = obj["metadata"].get("labels") or {}
    return found


def matches(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Whether a `metav1.LabelSelector` selects these labels; none selects nothing."""
    if selector is None:
        return False
    wanted: Mapping[str, str] = selector.get("matchLabels") or {}
    return matches_labels(wanted, labels) and all(
        matches_expression(expression, labels)
        for expression in selector.get("matchExpressions") or ()
    )


def matches_labels(wanted: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in wanted.items())


def matches_expression(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """One `key operator values`, of a label selector or of a node selector."""
    value = labels.get(expression["key"])
    values: Sequence[str] = expression.get("values") or ()
    match expression["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt":
            return _is_number(value) and int(str(value)) > int(values[0])
        case "Lt":
            return _is_number(value) and int(str(value)) < int(values[0])
    return False


def _is_number(value: str | None) -> bool:
    return value is not None and value.lstrip("-").isdigit()
