"""Defaults of Deployments, ReplicaSets and HorizontalPodAutoscalers."""

from __future__ import annotations

from typing import Any

from kedge.cluster.base import Object
from kedge.cluster.local.defaults.pods import default_pod_spec


def default_deployment(deployment: Object) -> None:
    spec = deployment.get("spec")
    if not isinstance(spec, dict):
        return
    _default_replicas(spec)
    _default_template(spec)
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("progressDeadlineSeconds", 600)
    strategy = spec.get("strategy")
    if not isinstance(strategy, dict):
        strategy = spec["strategy"] = {}
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        rolling = strategy.get("rollingUpdate")
        if not isinstance(rolling, dict):
            rolling = strategy["rollingUpdate"] = {}
        rolling.setdefault("maxUnavailable", "25%")
        rolling.setdefault("maxSurge", "25%")


def default_replica_set(replica_set: Object) -> None:
    spec = replica_set.get("spec")
    if isinstance(spec, dict):
        _default_replicas(spec)
        _default_template(spec)


def default_autoscaler(autoscaler: Object) -> None:
    spec = autoscaler.get("spec")
    if not isinstance(spec, dict):
        return
    spec.setdefault("minReplicas", 1)
    if not spec.get("metrics"):
        target = {"type": "Utilization", "averageUtilization": 80}
        spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]


def _default_replicas(spec: dict[str, Any]) -> None:
    if spec.get("replicas") is None:
        spec["replicas"] = 1


def _default_template(spec: dict[str, Any]) -> None:
    template = spec.get("template")
    if isinstance(template, dict) and isinstance(template.get("spec"), dict):
        default_pod_spec(template["spec"])
