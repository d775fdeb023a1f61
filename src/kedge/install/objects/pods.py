"""What Kedge's own pods have alike: the "restricted" security profile, and where they run."""

from __future__ import annotations

from typing import Any

from kedge.api.scheme import DEPLOYMENT
from kedge.cluster.base import Object
from kedge.install.kinds import POD_DISRUPTION_BUDGET
from kedge.install.objects.meta import labels, make, selector
from kedge.install.values import Placement, Values

USER = 65532
"""The user of Kedge's images; no pod runs as root."""

RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}


def field_env(name: str, path: str) -> Object:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


OWN_PLACE = [
    field_env("POD_NAME", "metadata.name"),
    field_env("POD_NAMESPACE", "metadata.namespace"),
    field_env("POD_IP", "status.podIP"),
]
"""Environment by which a process knows where it is."""


def make_container(name: str, image: str, values: Values, resources: Any, **content: Any) -> Object:
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": values.image_pull_policy,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        **content,
        "resources": resources,
        "securityContext": RESTRICTED,
    }


def probe(action: Object, *, period: int, failures: int) -> Object:
    return {
        **action,
        "periodSeconds": period,
        "timeoutSeconds": 3,
        "failureThreshold": failures,
    }


def make_workload(
    name: str,
    component: str,
    values: Values,
    placement: Placement,
    replicas: int,
    *,
    grace: int,
    **spec: Any,
) -> list[Object]:
    """A Deployment, whose old pods go only when new ones are ready, and its disruption budget."""
    chosen = selector(component)
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": chosen},
    }
    pod = {
        "serviceAccountName": name,
        "automountServiceAccountToken": True,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": grace,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "imagePullSecrets": values.image_pull_secrets,
        "nodeSelector": placement.node_selector,
        "tolerations": placement.tolerations,
        "topologySpreadConstraints": [spread],
        **spec,
    }
    template = {
        "metadata": {
            "labels": {**labels(values, component), "sidecar.istio.io/inject": "false"},
            "annotations": {"kubectl.kubernetes.io/default-container": component},
        },
        "spec": pod,
    }
    deployment = {
        "replicas": replicas,
        "revisionHistoryLimit": 3,
        "selector": {"matchLabels": chosen},
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
        },
        "template": template,
    }
    budget = {"maxUnavailable": 1, "selector": {"matchLabels": chosen}}
    return [
        make(POD_DISRUPTION_BUDGET, name, values, component, spec=budget),
        make(DEPLOYMENT, name, values, component, spec=deployment),
    ]
