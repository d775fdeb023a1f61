"""Kinds that only an installation writes or asks for, beside those of `api.scheme`."""

from __future__ import annotations

from typing import Any

from kedge.api import scheme
from kedge.api.scheme import Kind

_RBAC = "lightkube.models.rbac_v1"
_RBAC_GROUP = "rbac.authorization.k8s.io"

CUSTOM_RESOURCE_DEFINITION = Kind(
    "apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions",
    "lightkube.models.apiextensions_v1:CustomResourceDefinition", namespaced=False, status=True,
)  # fmt: skip
CLUSTER_ROLE = Kind(
    _RBAC_GROUP, "v1", "ClusterRole", "clusterroles", f"{_RBAC}:ClusterRole", namespaced=False
)
CLUSTER_ROLE_BINDING = Kind(
    _RBAC_GROUP, "v1", "ClusterRoleBinding", "clusterrolebindings",
    f"{_RBAC}:ClusterRoleBinding", namespaced=False,
)  # fmt: skip
ROLE = Kind(_RBAC_GROUP, "v1", "Role", "roles", f"{_RBAC}:Role")
ROLE_BINDING = Kind(_RBAC_GROUP, "v1", "RoleBinding", "rolebindings", f"{_RBAC}:RoleBinding")
POD_DISRUPTION_BUDGET = Kind(
    "policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets",
    "lightkube.models.policy_v1:PodDisruptionBudget", status=True,
)  # fmt: skip
NETWORK_POLICY = Kind(
    "networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies",
    "lightkube.models.networking_v1:NetworkPolicy",
)  # fmt: skip
VALIDATING_WEBHOOK = Kind(
    "admissionregistration.k8s.io", "v1", "ValidatingWebhookConfiguration",
    "validatingwebhookconfigurations",
    "lightkube.models.admissionregistration_v1:ValidatingWebhookConfiguration", namespaced=False,
)  # fmt: skip
STORAGE_CLASS = Kind(
    "storage.k8s.io", "v1", "StorageClass", "storageclasses",
    "lightkube.models.storage_v1:StorageClass", namespaced=False,
)  # fmt: skip
ACCESS_REVIEW = Kind(
    "authorization.k8s.io", "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews",
    "lightkube.models.authorization_v1:SelfSubjectAccessReview", namespaced=False,
)  # fmt: skip

INSTALLED: tuple[Kind, ...] = (
    scheme.NAMESPACE, CUSTOM_RESOURCE_DEFINITION, scheme.SERVICE_ACCOUNT, CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING, ROLE, ROLE_BINDING, scheme.CONFIG_MAP, scheme.SECRET,
    scheme.CLUSTER_STORAGE_CONTAINER, scheme.CLUSTER_SERVING_RUNTIME, scheme.GATEWAY_CLASS,
    scheme.GATEWAY, scheme.SERVICE, NETWORK_POLICY, POD_DISRUPTION_BUDGET, scheme.DEPLOYMENT,
    VALIDATING_WEBHOOK,
)  # fmt: skip
"""Kinds of installed objects, in the order in which they are applied."""

_BY_NAME = {(kind.api_version, kind.kind): kind for kind in INSTALLED}


def kind_of(obj: dict[str, Any]) -> Kind:
    """The kind of an installed object."""
    return _BY_NAME[obj["apiVersion"], obj["kind"]]
