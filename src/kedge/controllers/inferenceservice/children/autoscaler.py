"""Autoscalers of Standard mode: HorizontalPodAutoscaler, or KEDA's ScaledObject."""

from __future__ import annotations

import copy
from typing import Any

from kedge.api.inferenceservice.scaler import Scaler
from kedge.api.scheme import DEPLOYMENT, HORIZONTAL_POD_AUTOSCALER, Kind
from kedge.cluster.base import Object
from kedge.controllers.inferenceservice import names
from kedge.controllers.inferenceservice.children.meta import make_object
from kedge.controllers.inferenceservice.children.scaling import scaler
from kedge.controllers.inferenceservice.components import Component, ServicePlan

SCALED_OBJECT = Kind(
    "keda.sh", "v1alpha1", "ScaledObject", "scaledobjects", "", short_names=("so",), status=True
)
OTEL_COLLECTOR = Kind(
    "opentelemetry.io", "v1beta1", "OpenTelemetryCollector", "opentelemetrycollectors", "",
    status=True,
)  # fmt: skip
_DEFAULT_CPU = 80
_NO_LIMIT = 2**31 - 1
_DEFAULT_SCALER = "keda-otel-scaler.keda.svc:4318"


def make_autoscaler(plan: ServicePlan, component: Component) -> tuple[Kind, Object] | None:
    """What scales a component's Deployment; None where nothing or something else does."""
    who = scaler(plan, component)
    if who is Scaler.HPA:
        return HORIZONTAL_POD_AUTOSCALER, _make_hpa(plan, component)
    if who is Scaler.KEDA:
        return SCALED_OBJECT, _make_scaled_object(plan, component)
    return None


def make_revision_autoscaler(plan: ServicePlan, component: Component, revision: str) -> Object:
    """The HorizontalPodAutoscaler of a revision, where the class asks for one in Knative mode."""
    given = component.annotations
    metric = given.get(f"{names.AUTOSCALING}/metric") or component.spec.get("scaleMetric") or "cpu"
    target = given.get(f"{names.AUTOSCALING}/target") or component.spec.get("scaleTarget")
    percent = int(str(target)) if str(target or "").isdigit() else _DEFAULT_CPU
    least = max(component.min_replicas, 1)
    hpa = make_object(HORIZONTAL_POD_AUTOSCALER, plan.isvc, revision, labels=component.labels)
    hpa["spec"] = {
        "scaleTargetRef": {**_target(component), "name": revision},
        "minReplicas": least,
        "maxReplicas": max(int(component.spec.get("maxReplicas") or _NO_LIMIT), least),
        "metrics": [_utilization(str(metric), percent)],
    }
    return hpa


def bounds(component: Component, fewest: int) -> tuple[int, int]:
    """The fewest and most replicas, the fewest no lower than `fewest`."""
    if component.replicas is not None:
        count = max(component.replicas, fewest)
        return count, count
    least = max(component.min_replicas, fewest)
    return least, max(int(component.spec.get("maxReplicas") or 0), least)


def _target(component: Component) -> dict[str, str]:
    return {
        "apiVersion": DEPLOYMENT.api_version, "kind": DEPLOYMENT.kind, "name": component.name,
    }  # fmt: skip


def _labels(component: Component) -> dict[str, str]:
    return {**component.labels, names.APP_LABEL: names.app_label(component.name)}


def _metrics(component: Component) -> list[dict[str, Any]]:
    return list((component.spec.get("autoScaling") or {}).get("metrics") or ())


def _behavior(component: Component) -> dict[str, Any]:
    return copy.deepcopy((component.spec.get("autoScaling") or {}).get("behavior") or {})


# -- HorizontalPodAutoscaler -------------------------------------------------------------------


def _make_hpa(plan: ServicePlan, component: Component) -> Object:
    least, most = bounds(component, 1)
    hpa = make_object(
        HORIZONTAL_POD_AUTOSCALER,
        plan.isvc,
        component.name,
        labels=_labels(component),
        annotations=component.annotations,
    )
    spec: dict[str, Any] = {
        "scaleTargetRef": _target(component),
        "minReplicas": least,
        "maxReplicas": most,
        "metrics": _hpa_metrics(component),
    }
    behavior = _behavior(component)
    hpa["spec"] = {**spec, **({"behavior": behavior} if behavior else {})}
    return hpa


def _hpa_metrics(component: Component) -> list[dict[str, Any]]:
    metrics = _metrics(component)
    if metrics:
        return [
            _resource_metric(
                str(entry["resource"].get("name") or "cpu"), _resource_target(entry["resource"])
            )
            for entry in metrics
            if entry.get("resource")
        ]
    metric = component.spec.get("scaleMetric") or "cpu"
    target = component.spec.get("scaleTarget")
    if metric == "cpu":
        return [_utilization("cpu", int(target or _DEFAULT_CPU))]
    if metric == "memory" and target:
        return [_utilization("memory", int(target))]
    return []


def _utilization(name: str, percent: int) -> dict[str, Any]:
    return _resource_metric(name, {"type": "Utilization", "averageUtilization": percent})


def _resource_metric(name: str, target: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Resource", "resource": {"name": name, "target": target}}


def _resource_target(resource: dict[str, Any]) -> dict[str, Any]:
    target = resource.get("target") or {}
    if resource.get("name") == "memory" and target.get("type") == "AverageValue":
        return {"type": "AverageValue", "averageValue": target.get("averageValue")}
    return {
        "type": "Utilization",
        "averageUtilization": int(target.get("averageUtilization") or _DEFAULT_CPU),
    }


# -- KEDA --------------------------------------------------------------------------------------


def _make_scaled_object(plan: ServicePlan, component: Component) -> Object:
    least, most = bounds(component, 0)
    scaled = make_object(
        SCALED_OBJECT,
        plan.isvc,
        component.name,
        labels=_labels(component),
        annotations=component.annotations,
    )
    spec: dict[str, Any] = {
        "scaleTargetRef": _target(component),
        "minReplicaCount": least,
        # KEDA refuses a most of 0.
        "maxReplicaCount": max(most, 1),
        "triggers": _triggers(plan, component),
    }
    windows = _windows(plan, component)
    if windows:
        spec["advanced"] = {"horizontalPodAutoscalerConfig": {"behavior": windows}}
    scaled["spec"] = spec
    return scaled


def _windows(plan: ServicePlan, component: Component) -> dict[str, Any]:
    given = _behavior(component)
    if given:
        return {
            side: {"stabilizationWindowSeconds": given[side]["stabilizationWindowSeconds"]}
            for side in ("scaleUp", "scaleDown")
            if (given.get(side) or {}).get("stabilizationWindowSeconds") is not None
        }
    settings = plan.config.autoscaler
    configured = {
        "scaleUp": settings.scale_up_stabilization_window_seconds,
        "scaleDown": settings.scale_down_stabilization_window_seconds,
    }
    return {
        side: {"stabilizationWindowSeconds": int(value)}
        for side, value in configured.items()
        if value
    }


def _triggers(plan: ServicePlan, component: Component) -> list[dict[str, Any]]:
    metrics = _metrics(component)
    if not metrics:
        return [_resource_trigger("cpu", "Utilization", str(_DEFAULT_CPU))]
    return [_trigger(plan, component, entry) for entry in metrics]


def _trigger(plan: ServicePlan, component: Component, entry: dict[str, Any]) -> dict[str, Any]:
    if entry.get("external"):
        return _external_trigger(entry["external"])
    if entry.get("podmetric"):
        return _pod_trigger(plan, component, entry["podmetric"])
    resource = entry.get("resource") or {}
    target = resource.get("target") or {}
    kind = target.get("type") or "Utilization"
    amount = target.get("averageValue") if kind == "AverageValue" else None
    value = amount or target.get("averageUtilization") or _DEFAULT_CPU
    return _resource_trigger(str(resource.get("name") or "cpu"), kind, str(value))


def _resource_trigger(name: str, kind: str, value: str) -> dict[str, Any]:
    return {"type": name, "metricType": kind, "metadata": {"value": value}}


def _external_trigger(external: dict[str, Any]) -> dict[str, Any]:
    metric = external.get("metric") or {}
    backend = str(metric.get("backend") or "prometheus")
    metadata = {
        "serverAddress": str(metric.get("serverAddress") or ""),
        "query": str(metric.get("query") or ""),
        "threshold": _quantity((external.get("target") or {}).get("value")),
    }
    if backend == "prometheus" and metric.get("namespace"):
        metadata["namespace"] = str(metric["namespace"])
    trigger: dict[str, Any] = {"type": backend, "metadata": metadata}
    authentication = external.get("authenticationRef") or {}
    if authentication.get("authModes"):
        metadata["authModes"] = str(authentication["authModes"])
    name = (authentication.get("authenticationRef") or {}).get("name")
    if name:
        trigger["authenticationRef"] = {"name": str(name)}
    return trigger


def _pod_trigger(
    plan: ServicePlan, component: Component, podmetric: dict[str, Any]
) -> dict[str, Any]:
    metric = podmetric.get("metric") or {}
    configured = plan.config.opentelemetry_collector.metric_scaler_endpoint
    metadata = {
        "scalerAddress": str(metric.get("serverAddress") or configured or _DEFAULT_SCALER),
        "metricQuery": (
            f"sum({metric.get('query') or ''}"
            f'{{namespace="{plan.namespace}", deployment="{component.name}"}})'
        ),
        "targetValue": _quantity((podmetric.get("target") or {}).get("value")),
    }
    if metric.get("operationOverTime"):
        metadata["operationOverTime"] = str(metric["operationOverTime"])
    return {"type": "external", "metadata": metadata}


def _quantity(value: Any) -> str:
    return "0" if value is None else str(value)


# -- OpenTelemetry -----------------------------------------------------------------------------


def make_collector(plan: ServicePlan, component: Component) -> Object | None:
    """The sidecar collector that brings the pods' own metrics to KEDA, where they are asked for."""
    wanted = [
        str(name)
        for entry in _metrics(component)
        for name in ((entry.get("podmetric") or {}).get("metric") or {}).get("metricNames") or ()
    ]
    if scaler(plan, component) is not Scaler.KEDA or not wanted:
        return None
    collector = make_object(
        OTEL_COLLECTOR,
        plan.isvc,
        component.name,
        labels=_labels(component),
        annotations=component.annotations,
    )
    settings = plan.config.opentelemetry_collector
    amounts = {
        "limits": settings.resource.limits(), "requests": settings.resource.requests(),
    }  # fmt: skip
    resources = {part: amount for part, amount in amounts.items() if amount}
    collector["spec"] = {
        "mode": "sidecar",
        **({"resources": resources} if resources else {}),
        "config": _collector_config(plan, component, wanted),
    }
    return collector


def _collector_config(plan: ServicePlan, component: Component, wanted: list[str]) -> dict[str, Any]:
    settings = plan.config.opentelemetry_collector
    port = component.annotations.get("prometheus.kserve.io/port", "8080")
    scrape = {
        "job_name": "otel-collector",
        "scrape_interval": settings.scrape_interval or "5s",
        "static_configs": [{"targets": [f"localhost:{port}"]}],
    }
    attributes = [
        f'set(attributes["namespace"], "{plan.namespace}")',
        f'set(attributes["deployment"], "{component.name}")',
        'set(attributes["pod"], resource.attributes["k8s.pod.name"])',
    ]
    return {
        "receivers": {"prometheus": {"config": {"scrape_configs": [scrape]}}},
        "processors": {
            "resourcedetection/env": {
                "detectors": ["env"], "timeout": "2s", "override": False,
            },
            "transform": {
                "metric_statements": [{"context": "datapoint", "statements": attributes}]
            },
            "filter/metrics": {
                "metrics": {"include": {"match_type": "strict", "metric_names": wanted}}
            },
        },
        "exporters": {
            "otlp": {
                "endpoint": settings.metric_receiver_endpoint
                or "keda-otel-scaler.keda.svc:4317",
                "compression": "none",
                "tls": {"insecure": True},
            }
        },
        "service": {
            "pipelines": {
                "metrics": {
                    "receivers": ["prometheus"],
                    "processors": ["resourcedetection/env", "transform", "filter/metrics"],
                    "exporters": ["otlp"],
                }
            }
        },
    }  # fmt: skip
