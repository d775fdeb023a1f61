"""What `kedge controller` may do: everything that it needs, and nothing that it does not use.

`tests/kubernetes/test_rights.py` runs the controller with these rights alone, and looks in the API
server's audit log for a right that was missing or never used.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from kedge.api.scheme import GATEWAY_GROUP, SERVING_GROUP
from kedge.settings.installation import ADMISSION, CONTROLLER, WEBHOOK


@dataclass(frozen=True)
class Rule:
    """Verbs on resources of one API group, of all names or of those given."""

    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    names: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        rule: dict[str, Any] = {
            "apiGroups": [self.group],
            "resources": list(self.resources),
            "verbs": list(self.verbs),
        }
        if self.names:
            rule["resourceNames"] = list(self.names)
        return rule


_WATCH = ("list", "watch")
_CHILD = ("get", *_WATCH, "create", "patch", "delete")
"""A child is applied, which Kubernetes calls patch, and create where it is not there yet."""

CONTROLLER_RULES: tuple[Rule, ...] = (
    Rule(SERVING_GROUP, ("inferenceservices",), (*_WATCH, "patch")),
    Rule(SERVING_GROUP, ("inferenceservices/status",), ("update",)),
    Rule(
        SERVING_GROUP,
        ("servingruntimes", "clusterservingruntimes", "clusterstoragecontainers"),
        _WATCH,
    ),
    Rule("apps", ("deployments",), _CHILD),
    Rule("apps", ("deployments/scale",), ("patch",)),
    Rule("", ("services",), _CHILD),
    Rule(GATEWAY_GROUP, ("httproutes",), _CHILD),
    Rule("autoscaling", ("horizontalpodautoscalers",), _CHILD),
    # KEDA's and OpenTelemetry's objects are not watched: they need not be installed.
    Rule("keda.sh", ("scaledobjects",), ("create", "patch", "delete")),
    Rule("opentelemetry.io", ("opentelemetrycollectors",), ("create", "patch", "delete")),
    Rule("", ("pods",), _WATCH),
    Rule("", ("pods/log",), ("get",)),
    Rule("", ("events",), ("get", "list", "create", "patch")),
    # One by one, and only where a service's storage names them; never listed.
    Rule("", ("secrets", "serviceaccounts"), ("get",)),
    # The bundle of certificate authorities is copied to where the services are.
    Rule("", ("configmaps",), ("create", "patch")),
    Rule(
        "admissionregistration.k8s.io", ("validatingwebhookconfigurations",), ("get", "patch"),
        (ADMISSION,),
    ),
)  # fmt: skip
"""In the whole cluster."""

CONTROLLER_HOME_RULES: tuple[Rule, ...] = (
    Rule("", ("configmaps",), ("get", *_WATCH)),
    Rule("", ("secrets",), ("create",)),
    Rule("", ("secrets",), ("update",), (WEBHOOK,)),
    Rule("coordination.k8s.io", ("leases",), ("create",)),
    Rule("coordination.k8s.io", ("leases",), ("get", "update"), (CONTROLLER,)),
)
"""In the namespace where Kedge's own objects are."""


def make_controller_rights(
    namespace: str, rules: Iterable[Rule] = CONTROLLER_RULES
) -> list[dict[str, Any]]:
    """The account of the controllers with its roles and bindings."""
    return [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": _metadata(CONTROLLER, namespace),
        },
        _role("ClusterRole", _metadata(CONTROLLER), rules),
        _binding("ClusterRole", _metadata(CONTROLLER), namespace),
        _role("Role", _metadata(CONTROLLER, namespace), CONTROLLER_HOME_RULES),
        _binding("Role", _metadata(CONTROLLER, namespace), namespace),
    ]


def _metadata(name: str, namespace: str = "") -> dict[str, Any]:
    labels = {"app.kubernetes.io/managed-by": "kedge", "app.kubernetes.io/part-of": "kedge"}
    metadata: dict[str, Any] = {"name": name, "labels": labels}
    return {**metadata, "namespace": namespace} if namespace else metadata


def _role(kind: str, metadata: dict[str, Any], rules: Iterable[Rule]) -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": kind,
        "metadata": metadata,
        "rules": [rule.to_dict() for rule in rules],
    }


def _binding(kind: str, metadata: dict[str, Any], namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": f"{kind}Binding",
        "metadata": metadata,
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": metadata["name"],
        },
        "subjects": [{"kind": "ServiceAccount", "name": CONTROLLER, "namespace": namespace}],
    }  # fmt: skip
