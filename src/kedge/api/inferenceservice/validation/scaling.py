"""Rules on replica counts, limits, logging and autoscaling."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from kedge.api.findings import Findings, one_of
from kedge.api.inferenceservice.validation.subject import (
    KNATIVE_AUTOSCALER_CLASS,
    KNATIVE_HPA,
    Part,
    Subject,
)
from kedge.api.quantity import parse_quantity
from kedge.settings.autoscaler import annotation_problems
from kedge.settings.serving import DeploymentMode

_NOT_NEGATIVE = ("containerConcurrency", "minReplicas", "maxReplicas", "timeout")
_LOGGER_MODES = ("all", "request", "response")
_MEBIBYTE = Decimal(1024 * 1024)


def check_bounds(subject: Subject, findings: Findings) -> None:
    """11: counts are not negative and fit together."""
    for part in (*subject.components, *subject.canaries):
        for name in _NOT_NEGATIVE:
            value = part.spec.get(name)
            if value is not None and value < 0:
                findings.invalid(f"{part.path}.{name}", value, "it is negative", "Use 0 or more.")
        percent = part.spec.get("canaryTrafficPercent")
        if percent is not None and not 0 <= percent <= 100:
            findings.invalid(
                f"{part.path}.canaryTrafficPercent", percent, "it is no percentage", "Use 0 to 100."
            )
        least, most = part.spec.get("minReplicas"), part.spec.get("maxReplicas") or 0
        effective = 1 if least is None else least
        if 0 < most < effective:
            findings.invalid(
                f"{part.path}.maxReplicas",
                most,
                f"it is less than minReplicas, which is {effective}"
                + (" when unset" if least is None else ""),
                f"Use {effective} or more, or 0 for no limit.",
            )


def check_logger(subject: Subject, findings: Findings) -> None:
    """11: a logger says what it logs, and an object store what to write where."""
    for part in (*subject.components, *subject.canaries):
        logger = part.spec.get("logger")
        if logger is None:
            continue
        if logger.get("mode") not in _LOGGER_MODES:
            findings.invalid(
                f"{part.path}.logger.mode",
                logger.get("mode") or "",
                f"it is not {one_of(_LOGGER_MODES)}",
                "Use all to log requests and responses.",
            )
        storage = logger.get("storage")
        for name in ("path", "parameters", "key"):
            if storage is not None and not storage.get(name):
                findings.missing(
                    f"{part.path}.logger.storage.{name}",
                    "an object store needs path, parameters and key",
                    f"Add {name}.",
                )


def check_autoscaling(subject: Subject, findings: Findings) -> None:
    """12, 13: the metric fits the mode and the autoscaler."""
    for part in subject.components:
        if subject.mode is DeploymentMode.STANDARD:
            rules = _STANDARD_RULES.get(subject.autoscaler_class(part))
            if rules is not None:
                rules(part, findings)
        elif _knative_class(subject, part) == KNATIVE_HPA:
            _check_hpa(part, findings)
        else:
            _check_knative(part, findings)


def warn_of_annotations(subject: Subject, findings: Findings) -> None:
    """Knative's annotations whose value cannot be used count as not given, which is said."""
    places = [("metadata.annotations", subject.annotations)]
    places += [
        (f"{part.path}.annotations", part.spec.get("annotations") or {})
        for part in subject.components
    ]
    for path, given in places:
        for key, right in annotation_problems(given):
            findings.warn(f"{path}[{key}]", f"{given[key]!r} is not used", f"Give it {right}.")


def _knative_class(subject: Subject, part: Part) -> str:
    own = (part.spec.get("annotations") or {}).get(KNATIVE_AUTOSCALER_CLASS)
    return str(own or subject.annotations.get(KNATIVE_AUTOSCALER_CLASS) or "")


def _check_hpa(part: Part, findings: Findings) -> None:
    metric, target = part.spec.get("scaleMetric") or "cpu", part.spec.get("scaleTarget")
    if metric not in ("cpu", "memory"):
        findings.invalid(
            f"{part.path}.scaleMetric",
            metric,
            "a HorizontalPodAutoscaler scales on cpu or memory",
            "Use cpu or memory.",
        )
    elif target is not None and (target < 1 or (metric == "cpu" and target > 100)):
        bounds = "1 to 100" if metric == "cpu" else "1 or more"
        findings.invalid(
            f"{part.path}.scaleTarget", target, f"it is not {bounds} percent", f"Use {bounds}."
        )
    for i, entry in enumerate((part.spec.get("autoScaling") or {}).get("metrics") or []):
        path = f"{part.path}.autoScaling.metrics[{i}]"
        if entry.get("type") != "Resource":
            findings.invalid(
                f"{path}.type",
                entry.get("type") or "",
                "a HorizontalPodAutoscaler scales on Resource metrics only",
                "Use Resource, or set serving.kserve.io/autoscalerClass to keda.",
            )
        elif not entry.get("resource"):
            findings.missing(
                f"{path}.resource", "the metric's type is Resource", "Add name and target."
            )


def _check_keda(part: Part, findings: Findings) -> None:
    if part.spec.get("scaleMetric"):
        findings.forbidden(
            f"{part.path}.scaleMetric",
            part.spec["scaleMetric"],
            "KEDA reads autoScaling.metrics",
            "Remove it and describe the metric in autoScaling.metrics.",
        )
    for i, entry in enumerate((part.spec.get("autoScaling") or {}).get("metrics") or []):
        path = f"{part.path}.autoScaling.metrics[{i}]"
        match entry.get("type"):
            case "Resource":
                _check_keda_resource(f"{path}.resource", entry.get("resource"), findings)
            case "External":
                _check_query(f"{path}.external", entry.get("external"), findings)
            case "PodMetric":
                _check_query(f"{path}.podmetric", entry.get("podmetric"), findings)
            case _:
                findings.missing(
                    f"{path}.type",
                    "it says which metric counts",
                    "Use Resource, External or PodMetric.",
                )


def _check_keda_resource(path: str, resource: Any, findings: Findings) -> None:
    if not resource:
        findings.missing(path, "the metric's type is Resource", "Add name and target.")
        return
    name, target = resource.get("name"), resource.get("target") or {}
    allowed = ("Utilization",) if name == "cpu" else ("Utilization", "AverageValue")
    if target.get("type") not in allowed:
        findings.invalid(
            f"{path}.target.type",
            target.get("type") or "",
            f"{name} is scaled by {one_of(allowed)}",
            f"Use {one_of(allowed)}.",
        )
        return
    _check_target(f"{path}.target", target, findings)
    amount = parse_quantity(target.get("averageValue"))
    if target["type"] == "AverageValue" and amount is not None and amount < _MEBIBYTE:
        findings.invalid(
            f"{path}.target.averageValue",
            target["averageValue"],
            "it is less than 1Mi",
            "Use 1Mi or more.",
        )


def _check_query(path: str, source: Any, findings: Findings) -> None:
    source = source or {}
    if not (source.get("metric") or {}).get("query"):
        findings.missing(f"{path}.metric.query", "there is nothing to ask for", "Add the query.")
    target = source.get("target") or {}
    if target.get("value") is None:
        findings.missing(f"{path}.target.value", "there is nothing to aim at", "Add the value.")
    _check_target(f"{path}.target", target, findings)


_TARGET_FIELDS = {
    "Utilization": "averageUtilization", "Value": "value", "AverageValue": "averageValue",
}  # fmt: skip


def _check_target(path: str, target: dict[str, Any], findings: Findings) -> None:
    field = _TARGET_FIELDS.get(target.get("type") or "")
    if field is not None and field != "value" and target.get(field) is None:
        findings.missing(f"{path}.{field}", f"the target's type is {target['type']}", "Add it.")
    utilization = target.get("averageUtilization")
    if field == "averageUtilization" and utilization is not None and not 1 <= utilization <= 100:
        findings.invalid(
            f"{path}.averageUtilization", utilization, "it is no percentage", "Use 1 to 100."
        )


def _check_knative(part: Part, findings: Findings) -> None:
    if part.spec.get("deploymentStrategy") is not None:
        findings.forbidden(
            f"{part.path}.deploymentStrategy",
            part.spec["deploymentStrategy"],
            "in Knative mode traffic moves from revision to revision",
            "Remove it, or set the annotation serving.kserve.io/deploymentMode to Standard.",
        )
    metric = part.spec.get("scaleMetric") or "concurrency"
    target = part.spec.get("scaleTarget")
    if metric not in ("concurrency", "rps"):
        findings.invalid(
            f"{part.path}.scaleMetric",
            metric,
            "Knative mode scales on concurrency or rps",
            "Use concurrency or rps, or set the annotation serving.kserve.io/deploymentMode to"
            " Standard.",
        )
    elif metric == "rps" and target is not None and target < 1:
        findings.invalid(
            f"{part.path}.scaleTarget",
            target,
            "it is less than 1 request a second",
            "Use 1 or more.",
        )


_STANDARD_RULES: dict[str, Callable[[Part, Findings], None]] = {
    "hpa": _check_hpa,
    "keda": _check_keda,
}
